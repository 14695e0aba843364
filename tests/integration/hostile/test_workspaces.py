"""What accounts put in the place of what containers bind, and what root in a container leaves on the host."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Host, Lab
from own_mount import own_mount

PROJECT = "gpustead-workspace"
NAS = "/mnt/nas"
LOCAL = "/var/lib/gpustead/workspace"
BINDS = "/run/gpustead/binds"
VICTIM = "/opt/gpustead-victim"
DATA = "/srv/gpustead-data"
SETTINGS: dict[str, Any] = {
    "workspace_profile": "local",
    "workspace_local_settings": [".gitconfig", ".vimrc", ".config/nvim", ".tmux.conf"],
    "workspace_mounts": [{"host": DATA, "path": "/data"}],
    "workspace_environment": {"PRICE": "5$ ${HOME}"},
    "ssh_mesh_node_env": {"PRICE": "5$ ${HOME}"},
}


class Node:
    """A node with the owner's workspace in profile local, and what an account does there."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.host, self.ada = lab, lab.nodes[-1], lab.owner

    def site(self, **settings: Any) -> tuple[int, str]:
        tags = "binds,workspace,ssh_mesh"
        said = json.dumps({**SETTINGS, **settings})
        done = self.lab.playbook("site.yml", "--limit", self.host.name, "--tags", tags, "-e", said)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def as_ada(self, command: str) -> Any:
        return self.host.run(f"runuser -u {self.ada} -- sh -c '{command}'")

    def on_the_share(self, command: str) -> None:
        """As whoever owns the layout of the share, who may rename in it."""
        uid = self.host.check_output(f"stat -c %u {NAS}/users")
        self.host.check_output(f"setpriv --reuid={uid} --clear-groups sh -c '{command}'")

    def inside(self, command: str, user: str = "root") -> Any:
        return self.host.compose(PROJECT, "ssh", command, user=user)

    def marks(self) -> str:
        return self.host.check_output(f"stat -c '%u:%g %a %n' {VICTIM} {VICTIM}/file /etc/shadow; cat {VICTIM}/file")

    def running(self) -> set[str]:
        return set(self.host.check_output("docker ps --format '{{.Names}}'").split())


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Node]:
    made = Node(lab)
    made.host.check_output(f"install -d {VICTIM} && echo root > {VICTIM}/file && install -d -o {lab.owner} {DATA}")
    code, said = made.site()
    assert code == 0, said
    yield made
    done = lab.playbook("site.yml", "--limit", made.host.name)
    uncover = f"/usr/local/lib/gpustead/gpustead-binds uncover {DATA}"
    made.host.run(f"{uncover}; umount {DATA}; rm -rf {VICTIM} {DATA}")
    links = " ".join(
        f"{NAS}/users/{lab.owner}/{name}" for name in (".vscode-server", *SETTINGS["workspace_local_settings"])
    )
    made.as_ada(f"rm -f {links}")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def instead_of_the_home(node: Node, target: str) -> Iterator[None]:
    """ada's directory on the share is moved, and a link to `target` lies in its place."""
    users = f"{NAS}/users"
    node.on_the_share(f"cd {users} && mv {node.ada} .{node.ada} && ln -s {target} {node.ada}")
    try:
        yield
    finally:
        node.on_the_share(f"cd {users} && rm {node.ada} && mv .{node.ada} {node.ada}")


def test_a_link_in_the_place_of_a_home_is_never_bound(node: Node) -> None:
    before = node.marks()
    with instead_of_the_home(node, "/"):
        node.host.check_output(f"docker restart -t 1 {PROJECT}-ssh-1 gpustead-mesh")
        assert "/etc/shadow" not in node.inside(f"ls -d /home/{node.ada}/etc/shadow").stdout
        # As at a boot: nothing is mounted, and Docker starts no container on it.
        node.host.check_output("systemctl restart gpustead-binds")
        assert "is a symbolic link" in node.host.check_output("journalctl -u gpustead-binds -n 20 --no-pager")
        assert node.host.run(f"test -e {BINDS}/workspace/home-{node.ada}").rc != 0
        assert node.host.run(f"docker restart -t 1 {PROJECT}-ssh-1").rc != 0
        code, said = node.site()
        assert code != 0
        assert f"{NAS}/users/{node.ada} is a symbolic link: expected a directory. Move it" in said
        assert node.marks() == before
    code, said = node.site()
    assert code == 0, said
    assert node.inside(f"test -d /home/{node.ada}/runs", node.ada).rc == 0
    assert f"{PROJECT}-ssh-1" in node.running()
    assert "gpustead-mesh" in node.running()


@pytest.mark.parametrize("attack", [f"ln -s {VICTIM} /local/cache", "mkfifo /local/cache", "touch /local/cache"])
def test_nothing_of_roots_goes_through_the_place_of_an_account(node: Node, attack: str) -> None:
    before = node.marks()
    node.inside("mv /local/cache /local/cache.mine", node.ada)
    node.inside(attack, node.ada)
    try:
        code, said = node.site(workspace_start_timeout=181)  # one changed input: the role runs
        assert code != 0
        assert f"{LOCAL}/{node.ada}/cache is a " in said
        assert f"expected a directory of {node.ada}'s" in said
        assert "Move it out of the way" in said
        assert node.marks() == before
        assert "gpustead.cluster.ssh_mesh" in said or "gpustead-mesh" in node.running()
        assert node.host.run("test -e /var/lib/gpustead/receipts/workspace.json").rc != 0
    finally:
        node.inside("rm -rf /local/cache", node.ada)
        node.inside("mv /local/cache.mine /local/cache", node.ada)
    code, said = node.site()
    assert code == 0, said


def test_what_root_leaves_in_a_container_is_nobodys_shell_on_the_host(node: Node) -> None:
    for place, path in (("/local", f"{LOCAL}/{node.ada}"), ("/data", DATA)):
        node.inside(f"sh -c 'cp /bin/bash {place}/shell && chmod 4755 {place}/shell && chmod 755 {place}'")
        assert "root" in node.inside(f"stat -c %U {place}/shell").stdout
        for reached in (f"{path}/shell", f"{BINDS}/workspace/local-{node.ada}/shell"):
            assert "uid=0" not in node.as_ada(f"{reached} -p -c id").stdout
        node.inside(f"mknod {place}/disk b 8 0")
        assert node.as_ada(f"head -c 1 {path}/disk").rc != 0
        node.inside(f"rm -f {place}/shell {place}/disk")
    # The account's process in the container leads from the host to all that is in there.
    assert node.inside("mknod -m 666 /tmp/disk b 8 0").rc != 0


def test_settings_are_copies_of_what_the_account_may_read(node: Node) -> None:
    home = f"/home/{node.ada}"
    node.as_ada(
        f"cd {home} && ln -s /run/docker.sock .vimrc && ln -s /etc/shadow .gitconfig && mkdir -p .config"
        " && ln -s / .config/nvim && echo set > .tmux.conf"
    )
    try:
        code, said = node.site()
        assert code == 0, said
        for name in (".vimrc", ".gitconfig", ".config/nvim"):
            assert f"{home}/{name} is a symbolic link" in said
        seen = node.inside("ls -A /etc/gpustead/settings").stdout.split()
        assert seen == [".tmux.conf"]
        assert node.inside("cat /etc/gpustead/settings/.tmux.conf", node.ada).stdout.strip() == "set"
        assert node.inside("sh -c 'echo x > /etc/gpustead/settings/.tmux.conf'").rc != 0
        node.as_ada(f"echo other > {home}/.tmux.conf")
        assert node.site()[0] == 0
        assert node.inside("cat /etc/gpustead/settings/.tmux.conf", node.ada).stdout.strip() == "other"
    finally:
        node.as_ada(f"cd {home} && rm -f .vimrc .gitconfig .config/nvim .tmux.conf")
    assert node.site()[0] == 0


def test_a_name_that_is_no_text_stops_nothing(node: Node) -> None:
    home = f"/home/{node.ada}"
    date = rb"""cd ~/.config/nvim && date > "$(printf '\377 \033]0;owned\n x')" """
    packed = base64.b64encode(date).decode()
    assert node.as_ada(f"mkdir -p {home}/.config/nvim && echo {packed} | base64 -d | HOME={home} sh").rc == 0
    try:
        code, said = node.site()
        assert code == 0, said
        assert "\x1b]0;owned" not in said
        assert "owned" in node.inside("ls -b /etc/gpustead/settings/.config/nvim", node.ada).stdout
    finally:
        node.as_ada(f"rm -rf {home}/.config/nvim")
    code, said = node.site()  # the name of the copy that goes
    assert code == 0, said


def test_an_accounts_own_mount_in_its_place_keeps_nobody_waiting(node: Node) -> None:
    host, home = node.host, f"{NAS}/users/{node.ada}"
    uid = host.check_output(f"id -u {node.ada}")
    with own_mount(host, home.encode(), uid, "allow_other"):
        began = time.monotonic()
        host.check_output("systemctl restart gpustead-binds")
        assert time.monotonic() - began < 30
        assert f"{home} is a mount that uid {uid} has made" in host.check_output(
            "journalctl -u gpustead-binds -n 20 --no-pager"
        )
        assert host.run(f"test -e {BINDS}/workspace/home-{node.ada}").rc != 0
        assert host.run(f"test -d {BINDS}/workspace/shared").rc == 0
        # The next one does not wait for the first one's children either.
        host.check_output("systemctl restart gpustead-binds")
        assert time.monotonic() - began < 60
        code, said = node.site()
        assert code != 0
        assert f"Unmount it (umount -l {home})" in said
    code, said = node.site()
    assert code == 0, said
    assert node.inside(f"test -d /home/{node.ada}/runs", node.ada).rc == 0


def test_a_place_that_containers_write_stays_covered_and_is_observed(node: Node) -> None:
    flags = f"findmnt -no VFS-OPTIONS -T {DATA} | tail -1"
    assert "nosuid,nodev" in node.host.check_output(flags)
    node.host.check_output(f"umount {DATA}")
    verified = node.lab.playbook("playbooks/verify.yml", "--limit", node.host.name)
    said = " ".join((verified.stdout + verified.stderr).split())
    assert verified.returncode != 0
    assert f"{DATA} lets setuid programs that containers leave there work" in said
    code, said = node.site()
    assert code == 0, said
    assert "nosuid,nodev" in node.host.check_output(flags)
    # To be read alone from now on, and after a boot: what was left there still does nothing.
    code, said = node.site(workspace_mounts=[{"host": DATA, "path": "/data", "read_only": True}])
    assert code == 0, said
    assert f"uncover{DATA}" in said.replace(" ", "")  # a warning, which is wrapped
    node.host.check_output(f"umount {DATA}; systemctl restart gpustead-covers")
    assert "nosuid,nodev" in node.host.check_output(flags)
    assert node.site()[0] == 0


@pytest.mark.parametrize("mode", ["1777", "0775"])
def test_a_place_that_an_account_can_move_is_refused(node: Node, mode: str) -> None:
    host = node.host
    host.check_output(f"install -d -m {mode} /srv/gs-way && install -d -o {node.ada} /srv/gs-way/project/set")
    host.check_output(f"chown {node.ada} /srv/gs-way/project")
    try:
        mounts = [*SETTINGS["workspace_mounts"], {"host": "/srv/gs-way/project/set", "path": "/more"}]
        code, said = node.site(workspace_mounts=mounts)
        assert code != 0
        assert "/srv/gs-way/project can be moved by others than root" in said
    finally:
        assert node.site()[0] == 0
        host.run("umount /srv/gs-way/project/set; rm -rf /srv/gs-way")


def test_a_file_with_a_second_name_keeps_containers_out_of_its_place(node: Node) -> None:
    host = node.host
    host.check_output("install -d -m 1777 /srv/gs-names")
    host.check_output("touch /srv/gs-file && ln /srv/gs-file /srv/gs-names/file")
    mounts = [*SETTINGS["workspace_mounts"], {"host": "/srv/gs-names", "path": "/more"}]
    try:
        code, said = node.site(workspace_mounts=mounts)
        assert code != 0
        assert "/srv/gs-names/file has 2 names (hard links)" in said
        host.check_output("rm /srv/gs-file")
        assert node.site(workspace_mounts=mounts)[0] == 0
    finally:
        assert node.site()[0] == 0
        uncover = "/usr/local/lib/gpustead/gpustead-binds uncover /srv/gs-names"
        host.run(f"{uncover}; umount /srv/gs-names; rm -rf /srv/gs-names /srv/gs-file")


def test_a_dollar_is_a_dollar(node: Node) -> None:
    shown = "docker inspect -f '{{{{json .Config.Env}}}}' {}"
    for name in (f"{PROJECT}-ssh-1", "gpustead-mesh"):
        assert "PRICE=5$ ${HOME}" in node.host.check_output(shown.format(name)), name


def test_without_sudo_setuid_programs_do_nothing_in_what_docker_starts_either(node: Node) -> None:
    said = node.host.check_output("docker exec gpustead-mesh grep NoNewPrivs /proc/self/status")
    assert said.split() == ["NoNewPrivs:", "1"]


REFUSED = [
    "/etc",
    "//etc/",
    "/data/../etc",
    "/",
    "/proc",
    "/run",
    "/var/lib/docker",
    LOCAL,
    NAS,
    f"{NAS}/.cluster",
    "/home/x",
]


def test_what_is_roots_is_no_mount(lab: Lab) -> None:
    mounts = [{"host": path, "path": f"/m{number}"} for number, path in enumerate(REFUSED)]
    done = lab.playbook("playbooks/preflight.yml", "-e", json.dumps({"workspace_mounts": mounts}))
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert [path for path in REFUSED if f"workspace_mounts (<CLI option '-e'>): {path} " not in said] == []


def test_a_link_on_the_way_to_a_mount_is_refused_and_named(node: Node) -> None:
    host: Host = node.host
    host.check_output(f"ln -sfn /etc {DATA}/link")
    try:
        mounts = [*SETTINGS["workspace_mounts"], {"host": f"{DATA}/link", "path": "/more", "read_only": True}]
        code, said = node.site(workspace_mounts=mounts)
        assert code != 0
        assert f"{DATA}/link is a symbolic link" in said
    finally:
        host.check_output(f"rm {DATA}/link")
    assert node.site()[0] == 0
