"""What accounts do on the share: its layout is not theirs, and whatever lies there stops nobody and is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Lab
from own_mount import own_mount
from share_attacks import (
    ATTACKS,
    NAS,
    TRAPS,
    as_keeper,
    as_user,
    change_layout,
    nothing_of_roots,
    quoted,
    squat_a_name,
    trap_a_record,
)
from support import Output, converge, drift

# A run that waits for somebody's FIFO would not end at all.
SECONDS = 400


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_account_changes_the_layout(lab: Lab, attack: str) -> None:
    change_layout(lab, attack)


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


def test_a_name_that_was_squatted_before_keeps_it_from_nobody_else(lab: Lab, tmp_path: Path) -> None:
    squat_a_name(lab, tmp_path)


@pytest.fixture
def shadow(lab: Lab) -> Iterator[None]:
    with nothing_of_roots(lab):
        yield


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_the_place_of_a_record_hides_no_other(lab: Lab, trap: str) -> None:
    trap_a_record(lab, trap, SECONDS)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_the_place_of_the_record_is_named(lab: Lab, shadow: None, trap: str) -> None:
    node, record = lab.nodes[1], f"{NAS}/.cluster/images.json"
    as_keeper(node, f"cp {record} {NAS}/.cluster/.kept && rm {record} && {TRAPS[trap].format(record)}")
    began = time.monotonic()
    try:
        run = lab.playbook("site.yml", "--tags", "images", "--limit", node.name, "-e", "site_force=true")
        text = " ".join((run.stdout + run.stderr).split())
        assert time.monotonic() - began < SECONDS
        assert run.returncode != 0 and f"{record} cannot be read" in text and "Traceback" not in text, text
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
