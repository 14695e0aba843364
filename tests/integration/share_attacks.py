"""What accounts try on the share, and how it is done as them; the same on every kind of share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import Host, Lab
from support import AS_LAYOUT, converge

NAS, BRICK = "/mnt/nas", "/export/brick"
ZOE, YAN = 4811, 4812
TRAPS = {
    "a FIFO": "mkfifo {0}",
    "a link without end": "ln -s /dev/zero {0}",
    "a link to root's": "ln -s /etc/shadow {0}",
    "deep JSON": "head -c 200000 /dev/zero | tr '\\0' '[' > {0}",
    "layers": 'printf \'{{"schema":1,"layers":[{{}}]}}\' > {0}',
    "a file without end": "truncate -s 1T {0}",
    "a directory": "mkdir {0}",
}
ATTACKS = {
    "squats a name": "mkdir {nas}/users/gszoe",
    "links a name": "ln -s / {nas}/users/gszoe",
    "moves its directory away": "mv {nas}/users/{me} {nas}/users/.a",
    "moves that of another": "mv {nas}/users/{other} {nas}/users/.a",
    "opens the directory of all": "chmod 0777 {nas}/users",
    "moves the records": "mv {nas}/.cluster {nas}/.c",
    "writes a record": "echo x > {nas}/.cluster/nodes/gpu99.json",
    "removes the records": "rm -f {nas}/.cluster/nodes/*",
    "records an image": "echo x > {nas}/.cluster/images.json",
    "exchanges the record": "mv {nas}/.cluster/images.json {nas}/.cluster/.i",
    "lets itself into the mesh": "echo x > {nas}/.cluster/mesh/authorized_keys",
    "moves the mesh's key": "mv {nas}/.cluster/mesh/id_ed25519 {nas}/.cluster/mesh/.k",
    "exchanges the directory of all": "mv {nas}/shared {nas}/.s",
    "puts something into the root": "mkdir {nas}/mine",
    "joins the group of the layout": "sg gpustead 'mkdir {nas}/users/gszoe' </dev/null",
    "becomes the account of the layout": "su gpustead -c true </dev/null",
}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def as_user(host: Host, name: str, command: str) -> Any:
    return host.run(f"runuser -u {name} -- sh -c {quoted(command)}")


def as_keeper(host: Host, command: str) -> str:
    """As the account that nobody logs in as: what an account had left there before the layout was taken from it."""
    return host.check_output(f"{AS_LAYOUT} sh -c {quoted(command)}")


def change_layout(lab: Lab, attack: str) -> None:
    """No account changes the layout, neither its owner's nor another."""
    node = lab.nodes[0]
    names = [user["name"] for user in node.variables["cluster_users"]]
    places = ". users .cluster .cluster/mesh .cluster/nodes"
    seen = f"cd {NAS} && {AS_LAYOUT} find {places} -maxdepth 1 -printf '%p %U:%G %m %s\\n'"
    before = node.check_output(seen)
    for me, other in ((names[0], names[1]), (names[1], names[0])):
        done = as_user(node, me, ATTACKS[attack].format(nas=NAS, me=me, other=other))
        assert node.check_output(seen) == before
        assert done.rc != 0


@contextmanager
def nothing_of_roots(lab: Lab) -> Iterator[None]:
    """What root has, and no run may read or change."""
    seen = "stat -c '%u:%g %a %Y' /etc/shadow; sha256sum /etc/shadow"
    before = [node.check_output(seen) for node in lab.nodes]
    yield
    assert [node.check_output(seen) for node in lab.nodes] == before


@contextmanager
def people(lab: Lab, folder: Path) -> Iterator[Path]:
    """zoe and yan, who are declared only meanwhile."""
    node = lab.nodes[0]
    users = [*node.variables["cluster_users"], {"name": "gszoe", "uid": ZOE}, {"name": "gsyan", "uid": YAN}]
    (folder / "users.json").write_text(json.dumps({"cluster_users": users}))
    try:
        yield folder / "users.json"
    finally:
        node.run(f"{AS_LAYOUT} mv {NAS}/users/gszoe.aside {NAS}/users/gszoe")
        converge(lab)
        lab["nas"].run(f"rm -rf {BRICK}/users/gszoe {BRICK}/users/gsyan")
        for host in lab.nodes:
            host.run("rm -rf /home/gszoe /home/gsyan")


def squat_a_name(lab: Lab, folder: Path) -> None:
    """As in a cluster of an earlier version: the layout is its owner's, and all may make names."""
    with people(lab, folder) as declared:
        nas, node, owner = lab["nas"], lab.nodes[0], lab.owner
        uid = node.check_output(f"id -u {owner}")
        nas.check_output(f"chown {uid}:{uid} {BRICK}/users {BRICK}/.cluster && chmod 1777 {BRICK}/users")
        # A client of NFS takes what it knows of a directory for true for up to a minute.
        squat = f"mkdir {NAS}/users/gszoe && echo mine > {NAS}/users/gszoe/file"
        done = as_user(node, owner, f"for each in $(seq 30); do {squat} && exit; sleep 3; done; exit 1")
        assert done.rc == 0, done.stderr
        run = lab.playbook("site.yml", "--tags", "nas,accounts", "-e", "site_force=true", "-e", f"@{declared}")
        text = " ".join((run.stdout + run.stderr).split())
        assert run.returncode != 0 and "Traceback" not in text
        for words in (f"{NAS}/users/gszoe belongs to uid {uid}", f"mv {NAS}/users/gszoe", "gszoe"):
            assert words in text, text
        seen = f"cd {NAS} && stat -c '%n %u:%g %a' .cluster users users/gszoe users/gsyan"
        ids = node.check_output(seen).splitlines()
        assert ids[:2] == [".cluster 941:941 755", "users 941:941 1775"]
        assert ids[2].startswith(f"users/gszoe {uid}:{uid}") and ids[3] == f"users/gsyan {YAN}:{YAN} 700"
        # What the message says helps, and loses nothing.
        node.check_output(f"{AS_LAYOUT} mv {NAS}/users/gszoe {NAS}/users/gszoe.aside")
        again = lab.playbook("site.yml", "--tags", "nas,accounts", "-e", f"@{declared}")
        assert again.returncode == 0, again.stdout + again.stderr
        assert node.check_output(f"stat -c %u:%a {NAS}/users/gszoe") == f"{ZOE}:700"
        assert as_user(node, owner, f"cat {NAS}/users/gszoe.aside/file").stdout.strip() == "mine"
        nas.check_output(f"rm -rf {BRICK}/users/gszoe.aside")


def trap_a_record(lab: Lab, trap: str, seconds: float) -> None:
    """One in the place of a node's record hides no other. A run that waits for a FIFO would not end at all."""
    with nothing_of_roots(lab):
        node, other = lab.nodes[0], lab.nodes[1].name
        record = f"{NAS}/.cluster/nodes/{other}.json"
        as_keeper(node, f"cp {record} {NAS}/.cluster/nodes/.kept && rm {record} && {TRAPS[trap].format(record)}")
        began = time.monotonic()
        try:
            run = lab.playbook("site.yml", "--tags", "ssh_mesh", "--limit", node.name, "-e", "site_force=true")
            text = " ".join((run.stdout + run.stderr).split())
            assert time.monotonic() - began < seconds
            assert run.returncode == 0 and f"{other}.json" in text, text
            assert "root:$" not in text and "root:*" not in text, text
            hostfile = node.check_output(f"cat {NAS}/.cluster/mesh/hostfile")
            assert [name for name in lab.groups["gpu_nodes"] if name not in hostfile] == [other]
            verified = lab.playbook("playbooks/verify.yml")
            assert verified.returncode != 0 and "Traceback" not in verified.stdout + verified.stderr
        finally:
            as_keeper(node, f"rm -rf {record} && mv {NAS}/.cluster/nodes/.kept {record}")
            converge(lab)
