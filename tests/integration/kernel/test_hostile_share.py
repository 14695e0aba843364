"""What accounts try on a share over NFS: what they try on any, and what is a client's or a server's of NFS."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from conftest import Lab
from machines import RETURN, ask, is_running, tell, until
from share_attacks import ATTACKS, NAS, as_keeper, as_user, change_layout, squat_a_name, trap_a_record

BINDS = "/run/gpustead/binds"
SSH = "gpustead-workspace-ssh-1"
# A client of NFS 4.0 in a few lines: what the kernel's own would not say, an account's program can. It asks for a path
# as whoever it likes to be, and prints what the server makes of it.
CLIENT = """
import socket, struct, sys
server, path, uid, privileged = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["privileged"]
def opaque(data):
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)
names = [name for name in path.split("/") if name]
READ, LOOKUP = 1, 2
ops = struct.pack(">I", 24) + b"".join(struct.pack(">I", 15) + opaque(name.encode()) for name in names)
ops += struct.pack(">II", 3, READ | LOOKUP)
compound = opaque(b"") + struct.pack(">II", 0, len(names) + 2) + ops
who = struct.pack(">I", 0) + opaque(b"lab") + struct.pack(">III", uid, uid, 0)
call = struct.pack(">IIIIII", 1, 0, 2, 100003, 4, 1) + struct.pack(">I", 1) + opaque(who) + struct.pack(">II", 0, 0)
client = socket.socket()
client.settimeout(20)
if privileged:
    client.bind(("", 601))
client.connect((server, 2049))
client.sendall(struct.pack(">I", 1 << 31 | len(call + compound)) + call + compound)
size = struct.unpack(">I", client.recv(4, socket.MSG_WAITALL))[0] & ~(1 << 31)
reply = client.recv(size, socket.MSG_WAITALL)
kind, accepted, _flavor, verifier = struct.unpack_from(">IIII", reply, 4)
state, status = struct.unpack_from(">II", reply, 20 + verifier) if accepted == 0 else (1, 0)
granted = struct.unpack_from(">I", reply, len(reply) - 4)[0] if (state, status) == (0, 0) else 0
print("opened" if granted == READ | LOOKUP else f"denied: {accepted} {state} {status}")
"""


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_account_changes_the_layout(lab: Lab, attack: str) -> None:
    change_layout(lab, attack)


def test_no_account_is_another_with_a_client_of_its_own(lab: Lab) -> None:
    node = lab.nodes[0]
    me, other = node.variables["cluster_users"][:2]
    server, _, export = tell(node, f"findmnt --noheadings --type nfs4 --output SOURCE {NAS}").partition(":")
    client = f"timeout 30 python3 -c {shlex.quote(CLIENT)} {server}"
    place = f"{export}/users/{other['name']}"
    # The attack is one: root, who may have such a port, is let in by the server as anybody.
    assert tell(node, f"{client} {place} {other['uid']} privileged") == "opened"
    for uid, path in ((other["uid"], place), (941, f"{export}/.cluster")):
        tried = as_user(node, me["name"], f"{client} {path} {uid}")
        # NFS4ERR_PERM
        assert tried.stdout.strip() == "denied: 0 0 1", tried.stdout + tried.stderr


def test_a_link_in_a_directory_of_all_leads_nobody_else(lab: Lab) -> None:
    """protected_symlinks: in a sticky directory that all may write, a link is followed by who has made it alone."""
    node, (me, other) = lab.nodes[0], [user["name"] for user in lab.nodes[0].variables["cluster_users"][:2]]
    sticky = f"{NAS}/shared/lab-sticky"
    assert as_user(node, lab.owner, f"mkdir {sticky} && chmod 1777 {sticky}").rc == 0
    try:
        thief = other if lab.owner == me else me
        assert as_user(node, thief, f"ln -s /etc/hostname {sticky}/link").rc == 0
        assert tell(node, "sysctl --values fs.protected_symlinks") == "1"
        for tried in (f"cat {sticky}/link", f"runuser -u {lab.owner} -- cat {sticky}/link"):
            done = ask(node, tried)
            assert done.returncode != 0 and "Permission denied" in done.stderr, tried
        assert as_user(node, thief, f"cat {sticky}/link").stdout.strip() == node.name
        # That it is this which keeps them: without it they follow.
        tell(node, "sysctl --write fs.protected_symlinks=0")
        assert tell(node, f"runuser -u {lab.owner} -- cat {sticky}/link") == node.name
    finally:
        ask(node, "sysctl --write fs.protected_symlinks=1")
        as_user(node, lab.owner, f"rm -rf {sticky}")


def test_a_setuid_program_of_an_accounts_makes_nobody_that_account(lab: Lab) -> None:
    node, (me, other) = lab.nodes[0], [user["name"] for user in lab.nodes[0].variables["cluster_users"][:2]]
    shell = f"{NAS}/shared/lab-shell"
    thief = other if lab.owner == me else me
    assert as_user(node, lab.owner, f"cp /bin/bash {shell} && chmod 4755 {shell}").rc == 0
    try:
        assert tell(node, f"stat -c %a {shell}") == "4755"
        assert as_user(node, thief, f"{shell} -p -c 'id -un'").stdout.strip() == thief
    finally:
        as_user(node, lab.owner, f"rm -f {shell}")


def test_a_link_in_the_place_of_a_home_is_never_bound(lab: Lab) -> None:
    node, users, ada = lab.nodes[0], f"{NAS}/users", lab.owner
    as_keeper(node, f"mv {users}/{ada} {users}/.{ada} && ln -s / {users}/{ada}")
    try:
        # As at a boot: nothing is mounted, and Docker starts no container on it.
        tell(node, "systemctl restart gpustead-binds", 300)
        said = tell(node, "journalctl --unit gpustead-binds --lines 20 --no-pager")
        assert f"{users}/{ada} is a symbolic link" in said
        assert ask(node, f"test -e {BINDS}/workspace/home-{ada}").returncode != 0
        assert ask(node, f"docker restart --time 1 {SSH}", 180).returncode != 0
    finally:
        as_keeper(node, f"rm {users}/{ada} && mv {users}/.{ada} {users}/{ada}")
        tell(node, "systemctl restart gpustead-binds", 300)
        ask(node, f"docker start {SSH}", 180)
    until("all containers run", lambda: is_running(node), RETURN)
    assert tell(node, f"docker exec --user {ada} {SSH} test -d /home/{ada}/runs && echo there") == "there"


@pytest.mark.parametrize("trap", ["a FIFO", "a link to root's", "a file without end"])
def test_a_trap_in_the_place_of_a_record_hides_no_other(lab: Lab, trap: str) -> None:
    trap_a_record(lab, trap, 1800)


def test_a_name_that_was_squatted_before_keeps_it_from_nobody_else(lab: Lab, tmp_path: Path) -> None:
    squat_a_name(lab, tmp_path)
