"""What accounts do on the share: its layout is not theirs, and whatever lies there stops nobody and is named."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Host, Lab
from own_mount import own_mount
from support import AS_LAYOUT, Output, converge, drift

NAS, BRICK = "/mnt/nas", "/export/brick"
ZOE, YAN = 4811, 4812
# A run that waits for somebody's FIFO would not end at all.
SECONDS = 400
TRAPS = {
    "a FIFO": "mkfifo {0}",
    "a link without end": "ln -s /dev/zero {0}",
    "a link to root's": "ln -s /etc/shadow {0}",
    "deep JSON": "head -c 200000 /dev/zero | tr '\\0' '[' > {0}",
    "layers": 'printf \'{{"schema":1,"layers":[{{}}]}}\' > {0}',
    "a file without end": "truncate -s 1T {0}",
    "a directory": "mkdir {0}",
}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def as_user(host: Host, name: str, command: str) -> Any:
    return host.run(f"runuser -u {name} -- sh -c {quoted(command)}")


def as_keeper(host: Host, command: str) -> str:
    """As the account that nobody logs in as: what an account had left there before the layout was taken from it."""
    return host.check_output(f"{AS_LAYOUT} sh -c {quoted(command)}")


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
    "lets somebody into the mesh": "echo x > {nas}/.cluster/accounts/accounts.json",
    "exchanges the list of the mesh": "mv {nas}/.cluster/accounts/accounts.json {nas}/.cluster/accounts/.a",
    "moves the mesh's key": "mv {nas}/.cluster/mesh/id_ed25519 {nas}/.cluster/mesh/.k",
    "exchanges the directory of all": "mv {nas}/shared {nas}/.s",
    "puts something into the root": "mkdir {nas}/mine",
    "joins the group of the layout": "sg gpustead 'mkdir {nas}/users/gszoe' </dev/null",
    "becomes the account of the layout": "su gpustead -c true </dev/null",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_account_changes_the_layout(lab: Lab, attack: str) -> None:
    node = lab.nodes[0]
    names = [user["name"] for user in node.variables["cluster_users"]]
    places = ". users .cluster .cluster/mesh .cluster/nodes .cluster/accounts"
    seen = f"cd {NAS} && {AS_LAYOUT} find {places} -maxdepth 1 -printf '%p %U:%G %m %s\\n'"
    before = node.check_output(seen)
    for me, other in ((names[0], names[1]), (names[1], names[0])):
        done = as_user(node, me, ATTACKS[attack].format(nas=NAS, me=me, other=other))
        assert node.check_output(seen) == before
        assert done.rc != 0


# Of GlusterFS's own library: it says to the server whoever it likes to be.
CLIENT = """
import ctypes as c, sys
lib = c.CDLL("libgfapi.so.0")
lib.glfs_new.restype = lib.glfs_opendir.restype = c.c_void_p
lib.glfs_new.argtypes = [c.c_char_p]
lib.glfs_set_volfile_server.argtypes = [c.c_void_p, c.c_char_p, c.c_char_p, c.c_int]
lib.glfs_set_logging.argtypes = [c.c_void_p, c.c_char_p, c.c_int]
lib.glfs_init.argtypes = [c.c_void_p]
lib.glfs_opendir.argtypes = [c.c_void_p, c.c_char_p]
share = lib.glfs_new(sys.argv[2].encode())
lib.glfs_set_volfile_server(share, b"tcp", sys.argv[1].encode(), 24007)
lib.glfs_set_logging(share, b"/dev/null", 1)
lib.glfs_init(share)
lib.glfs_setfsuid(int(sys.argv[3]))
lib.glfs_setfsgid(int(sys.argv[3]))
print("opened" if lib.glfs_opendir(share, sys.argv[4].encode()) else "denied")
"""


def test_no_account_is_another_with_a_client_of_its_own(lab: Lab) -> None:
    node = lab.nodes[0]
    me, other = node.variables["cluster_users"][:2]
    server, _, volume = node.check_output(f"findmnt -no SOURCE {NAS}").partition(":/")
    client = f"timeout 20 python3 -c {quoted(CLIENT)} {server} {volume}"
    # The attack is one: root, who may have such a port, is let in by the server.
    assert node.check_output(f"{client} {other['uid']} /users/{other['name']}") == "opened"
    # One that the server does not take waits for ever.
    for uid, place in ((other["uid"], f"/users/{other['name']}"), (941, "/.cluster")):
        assert "opened" not in as_user(node, me["name"], f"{client} {uid} {place}").stdout


@pytest.fixture
def people(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """zoe and yan, who are declared only in this test."""
    node = lab.nodes[0]
    users = [*node.variables["cluster_users"], {"name": "gszoe", "uid": ZOE}, {"name": "gsyan", "uid": YAN}]
    (tmp_path / "users.json").write_text(json.dumps({"cluster_users": users}))
    yield tmp_path / "users.json"
    node.run(f"{AS_LAYOUT} mv {NAS}/users/gszoe.aside {NAS}/users/gszoe")
    converge(lab)
    lab["nas"].run(f"rm -rf {BRICK}/users/gszoe {BRICK}/users/gsyan")
    for host in lab.nodes:
        host.run("rm -rf /home/gszoe /home/gsyan")


def test_a_name_that_was_squatted_before_keeps_it_from_nobody_else(lab: Lab, people: Path) -> None:
    """As in a cluster of an earlier version: the layout is its owner's, and all may make names."""
    nas, node, owner = lab["nas"], lab.nodes[0], lab.owner
    uid = node.check_output(f"id -u {owner}")
    nas.check_output(f"chown {uid}:{uid} {BRICK}/users {BRICK}/.cluster && chmod 1777 {BRICK}/users")
    done = as_user(node, owner, f"mkdir {NAS}/users/gszoe && echo mine > {NAS}/users/gszoe/file")
    assert done.rc == 0, done.stderr
    run = lab.playbook("site.yml", "--tags", "nas,accounts", "-e", "site_force=true", "-e", f"@{people}")
    text = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0 and "Traceback" not in text
    for words in (f"{NAS}/users/gszoe belongs to uid {uid}", f"mv {NAS}/users/gszoe", "gszoe"):
        assert words in text, text
    ids = node.check_output(f"cd {NAS} && stat -c '%n %u:%g %a' .cluster users users/gszoe users/gsyan").splitlines()
    assert ids[:2] == [".cluster 941:941 755", "users 941:941 1775"]
    assert ids[2].startswith(f"users/gszoe {uid}:{uid}") and ids[3] == f"users/gsyan {YAN}:{YAN} 700"
    # What the message says helps, and loses nothing.
    node.check_output(f"{AS_LAYOUT} mv {NAS}/users/gszoe {NAS}/users/gszoe.aside")
    again = lab.playbook("site.yml", "--tags", "nas,accounts", "-e", f"@{people}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert node.check_output(f"stat -c %u:%a {NAS}/users/gszoe") == f"{ZOE}:700"
    assert as_user(node, owner, f"cat {NAS}/users/gszoe.aside/file").stdout.strip() == "mine"
    nas.check_output(f"rm -rf {BRICK}/users/gszoe.aside")


@pytest.fixture
def shadow(lab: Lab) -> Iterator[None]:
    """What root has, and no run may read or change."""
    seen = "stat -c '%u:%g %a %Y' /etc/shadow; sha256sum /etc/shadow"
    before = [node.check_output(seen) for node in lab.nodes]
    yield
    assert [node.check_output(seen) for node in lab.nodes] == before


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_the_place_of_a_record_hides_no_other(lab: Lab, shadow: None, trap: str) -> None:
    node, other = lab.nodes[0], lab.nodes[1].name
    record = f"{NAS}/.cluster/nodes/{other}.json"
    as_keeper(node, f"cp {record} {NAS}/.cluster/nodes/.kept && rm {record} && {TRAPS[trap].format(record)}")
    began = time.monotonic()
    try:
        run = lab.playbook("site.yml", "--tags", "ssh_mesh", "--limit", node.name, "-e", "site_force=true")
        text = " ".join((run.stdout + run.stderr).split())
        assert time.monotonic() - began < SECONDS
        assert run.returncode == 0 and f"{other}.json" in text and "root:$" not in text and "root:*" not in text, text
        hostfile = node.check_output(f"cat {NAS}/.cluster/mesh/hostfile")
        assert [name for name in lab.groups["gpu_nodes"] if name not in hostfile] == [other]
        verified = lab.playbook("playbooks/verify.yml")
        assert verified.returncode != 0 and "Traceback" not in verified.stdout + verified.stderr
    finally:
        as_keeper(node, f"rm -rf {record} && mv {NAS}/.cluster/nodes/.kept {record}")
        converge(lab)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_the_place_of_the_record_is_named(lab: Lab, shadow: None, trap: str) -> None:
    node, record = lab.nodes[1], f"{NAS}/.cluster/images.json"
    as_keeper(node, f"cp {record} {NAS}/.cluster/.kept && rm {record} && {TRAPS[trap].format(record)}")
    began = time.monotonic()
    try:
        run = lab.playbook("site.yml", "--tags", "images", "--limit", node.name, "-e", "site_force=true")
        text = " ".join((run.stdout + run.stderr).split())
        assert time.monotonic() - began < SECONDS
        assert run.returncode != 0 and f"{record} is damaged" in text and "Traceback" not in text, text
    finally:
        as_keeper(node, f"rm -rf {record} && mv {NAS}/.cluster/.kept {record}")
        converge(lab)


@pytest.mark.parametrize("damage", ["echo junk >", "truncate -s 1T"])
def test_a_damaged_key_of_the_mesh_is_named(lab: Lab, shadow: None, damage: str) -> None:
    """It is its owner's, who can write into it and neither move nor link it."""
    node, key = lab.nodes[0], f"{NAS}/.cluster/mesh/id_ed25519"
    assert as_user(node, lab.owner, f"cp {key} ~/.gs-kept && {damage} {key}").rc == 0
    began = time.monotonic()
    try:
        run = lab.playbook("site.yml", "--tags", "ssh_mesh", "--limit", node.name, "-e", "site_force=true")
        text = " ".join((run.stdout + run.stderr).split())
        assert time.monotonic() - began < SECONDS
        assert run.returncode != 0 and key in text and "Traceback" not in text, text
    finally:
        as_user(node, lab.owner, f"cat ~/.gs-kept > {key} && rm ~/.gs-kept")
        converge(lab)


def test_verify_names_a_layout_that_accounts_may_change(lab: Lab) -> None:
    node = lab.nodes[0]
    as_keeper(node, f"chmod 1777 {NAS}/users")
    try:
        run = lab.playbook("playbooks/verify.yml")
        assert run.returncode != 0 and "file users has mode 1777, declared is 1775" in run.stdout + run.stderr
    finally:
        as_keeper(node, f"chmod 1775 {NAS}/users")


@pytest.mark.parametrize("name", [b"\xff", b"a\rb", b"a\x0bb", b"a\xe2\x80\xa8b"])
def test_what_an_account_mounts_itself_stops_no_run(lab: Lab, name: bytes) -> None:
    node, me = lab.nodes[0], lab.owner
    uid, place = node.check_output(f"id -u {me}"), f"/home/{me}/".encode() + name
    with own_mount(node, place, uid):
        run = lab.playbook("site.yml", "--tags", "nas,binds", "--limit", node.name, "-e", "site_force=true")
        assert run.returncode == 0, run.stdout + run.stderr
        verified = lab.playbook("playbooks/verify.yml", "--limit", node.name)
        assert "Traceback" not in verified.stdout + verified.stderr
    node.check_output(f"rm -rf /home/{me}/a?b; find /home/{me} -maxdepth 1 -empty -type d -name '*[^ -~]*' -delete")
    converge(lab)


def test_setuid_programs_of_the_share_that_work_again_are_named_and_taken_away(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    flags = f"findmnt -no VFS-OPTIONS {NAS}"
    assert {"nosuid", "nodev"} <= set(node.check_output(flags).split(","))
    node.check_output(f"mount -o remount,bind,suid,dev {NAS}")
    try:
        assert "nosuid" not in node.check_output(flags)
        code, found = drift(lab, tmp_path / "drift.json")
        assert code != 0 and Output(node.name, "nas", f"mount {NAS}") in found
        verified = lab.playbook("playbooks/verify.yml")
        text = " ".join((verified.stdout + verified.stderr).split())
        assert verified.returncode != 0 and f"NAS {NAS} is mounted without nosuid,nodev" in text, text
    finally:
        converge(lab)
    assert {"nosuid", "nodev"} <= set(node.check_output(flags).split(","))
