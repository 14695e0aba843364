# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The accounts in the mesh's container: from the list on the share, which role accounts writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.accounts_plan import plan
from mesh_run import accounts, names, places, service
from mesh_run.accounts import Account, Group, People

PASSWD = """root:x:0:0:root:/root:/bin/bash
sshd:x:105:65534::/run/sshd:/usr/sbin/nologin
ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash
dan:x:1503:1503:gpustead:/home/dan:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nubuntu:x:1000:\ndan:x:1503:\nstaff:x:50:\nnogroup:x:65534:\n"
PEOPLE = People((Account("ada", 1500, 1600), Account("bob", 1000, 1000)), (Group("lab", 1600, ("bob",)),))
USERS: list[dict[str, Any]] = [
    {"name": "ada", "uid": 1500, "gid": 1600, "group": "lab"},
    {"name": "bob", "uid": 1501},
    {"name": "carol", "uid": 1502, "mesh": False},
    {"name": "exporter", "uid": 960, "system": True},
]


def written(users: list[dict[str, Any]]) -> People:
    layout = plan(users, "ada", {"name": "gpustead", "uid": 941, "gid": 941}, "/mnt/nas").layout
    (entry,) = [entry for entry in layout if entry["path"] == ".cluster/accounts/accounts.json"]
    assert (entry["owner"], entry["mode"]) == (941, "0644")
    return accounts.parse(entry["content"])


def test_what_role_accounts_writes_is_what_the_mesh_reads() -> None:
    found = written(USERS)
    assert found.accounts == (Account("ada", 1500, 1600), Account("bob", 1501, 1501))
    assert found.groups == (Group("lab", 1600, ()),)


def test_an_account_that_is_taken_off_is_out() -> None:
    assert accounts.gone(written(USERS).accounts, written(USERS[1:]).accounts) == {1500}


def test_an_account_whose_number_is_anothers_now_is_out() -> None:
    before = (Account("ada", 1500, 1500), Account("bob", 1501, 1501))
    assert accounts.gone(before, (Account("ada", 1600, 1600), Account("bob", 1500, 1500))) == {1500, 1501}


def test_the_container_has_no_other_people() -> None:
    text = accounts.passwd(PASSWD, PEOPLE, "/bin/zsh")
    assert text.splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "sshd:x:105:65534::/run/sshd:/usr/sbin/nologin",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
        "ada:*:1500:1600:gpustead:/home/ada:/bin/zsh",
        "bob:*:1000:1000:gpustead:/home/bob:/bin/zsh",
    ]
    assert accounts.passwd(text, PEOPLE, "/bin/zsh") == text


def test_groups_are_those_of_the_cluster_and_one_for_each_other_account() -> None:
    text = accounts.group(GROUP, PEOPLE)
    assert text.splitlines() == ["root:x:0:", "staff:x:50:", "nogroup:x:65534:", "bob:x:1000:", "lab:x:1600:bob"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "root:x:0:0::/:/bin/sh\nada"},
        {"name": "../ada"},
        {"uid": 0},
        {"uid": 65534},
        {"uid": 1501},
        {"gid": 4},
    ],
)
def test_a_list_that_would_make_somebody_another_is_none(change: dict[str, Any]) -> None:
    ada = {"name": "ada", "uid": 1500, "gid": 1500, **change}
    raw = {"schema": 1, "accounts": [ada, {"name": "bob", "uid": 1501, "gid": 1501}], "groups": []}
    with pytest.raises(ValueError):
        accounts.parse(json.dumps(raw))


@pytest.mark.parametrize("member", ["ada\nroot:x:0:ada", "ada,bob", "a:b", "", 7])
def test_a_group_has_nothing_but_names(member: Any) -> None:
    raw = {"schema": 1, "accounts": [], "groups": [{"name": "lab", "gid": 1600, "members": [member]}]}
    with pytest.raises(ValueError, match="is no name"):
        accounts.parse(json.dumps(raw))


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\nb", " a", "a ", "-a", ""])
def test_a_name_of_a_group_is_no_more_than_that(name: str) -> None:
    raw = {"schema": 1, "accounts": [], "groups": [{"name": "domain users", "gid": 1600, "members": ["ada"]}]}
    assert accounts.parse(json.dumps(raw)).groups == (Group("domain users", 1600, ("ada",)),)
    raw["groups"] = [{"name": name, "gid": 1600, "members": []}]
    with pytest.raises(ValueError, match="is no name of a group"):
        accounts.parse(json.dumps(raw))


@pytest.mark.parametrize("kind", ["link", "FIFO", "directory", "size"])
def test_what_lies_in_the_place_of_a_file_on_the_share_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path, other = tmp_path / "accounts.json", tmp_path / "other"
    other.write_text(json.dumps({"schema": 1, "accounts": [], "groups": []}))
    assert accounts.read(other) == People()
    assert accounts.read(path) is None
    {"link": path.symlink_to, "FIFO": lambda _other: os.mkfifo(path), "directory": lambda _other: path.mkdir()}.get(
        kind, lambda _other: path.write_bytes(other.read_bytes())
    )(other)
    monkeypatch.setattr(places, "_SIZE", 10)
    with pytest.raises((OSError, ValueError)):
        accounts.read(path)


@pytest.mark.parametrize("port", [True, 0, 65536, "22", None])
def test_a_place_of_a_node_is_an_address_and_a_port(port: Any) -> None:
    with pytest.raises(ValueError, match="is no place of a node"):
        names.parse(json.dumps({"schema": 1, "nodes": {"gpu01": {"address": "10.0.0.1", "port": port}}}))


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> service.Service:
    for name, text in {"passwd": PASSWD, "group": GROUP}.items():
        (tmp_path / name).write_text(text)
    real = service._replace
    ended: list[int] = []
    monkeypatch.setattr(service, "_replace", lambda path, text: real(tmp_path / path.name, text))
    monkeypatch.setattr(service, "make_place", lambda _account: None)
    monkeypatch.setattr(service, "close_places", lambda _people: None)
    monkeypatch.setattr(service, "end_all", ended.append)
    monkeypatch.setattr(service, "present", lambda: {1500})
    monkeypatch.setattr(accounts, "read", lambda: accounts.parse((tmp_path / "list").read_text()))
    monkeypatch.setenv("GPUSTEAD_USER", "ada")
    made = service.Service()
    made.base = {"passwd": PASSWD, "group": GROUP}
    vars(made).update(place=tmp_path, ended=ended)
    return made


REVOKED = f"@revoked * ssh-ed25519 {'A' * 68}"


@pytest.mark.parametrize(
    ("text", "refused"),
    [("", 0), (f"{REVOKED} gpu02\n{REVOKED.replace('A' * 68, 'B' * 68)}\n", 2)],
)
def test_of_the_share_ssh_is_told_no_more_than_whom_to_refuse(
    container: Any, monkeypatch: pytest.MonkeyPatch, text: str, refused: int
) -> None:
    for name in ("MESH", "PROGRAMS"):
        monkeypatch.setattr(places, name, container.place)
    monkeypatch.setattr(service, "RUN", container.place / "run")
    ours = "@cert-authority * ssh-ed25519 ours\n"
    (container.place / "known_hosts").write_text(ours)
    assert service.known_hosts() == ours  # an earlier release has written no list
    (container.place / "revoked").write_text(text)
    told = service.known_hosts()
    assert told.startswith(ours) and told.count("@revoked * ssh-ed25519 ") == refused == len(told.splitlines()) - 1
    assert "gpu02" not in told


@pytest.mark.parametrize(
    "text",
    [
        *("@cert-authority * ssh-ed25519 AAAA", f"{REVOKED}\n@cert-authority * x", f"{REVOKED} a b", "# words"),
        *(REVOKED.replace("*", "gpu02"), f" {REVOKED}", REVOKED.replace("A" * 68, "A")),
    ],
)
def test_a_list_of_the_revoked_holds_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="no list of revoked keys"):
        names.revoked(text)


SSHD = 105  # in PASSWD, whom it is before one has shown a key


def raw(*names: str) -> str:
    found = [
        {"name": name, "uid": 1500 + at, "gid": 1500 + at} for at, name in enumerate(("ada", "bob")) if name in names
    ]
    return json.dumps({"schema": 1, "accounts": found, "groups": []})


def test_whoever_is_off_the_list_is_out_with_all_that_runs(container: Any) -> None:
    (container.place / "list").write_text(raw("ada", "bob"))
    container.look()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == "bob:1501:1501"
    (container.place / "list").write_text(raw("ada"))
    container.look()
    # The connections that have not shown a key yet come first: one of them may be bob's.
    assert container.ended == [SSHD, 1501]
    assert "bob" not in (container.place / "passwd").read_text()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == ""
    container.look()  # nothing to be done where nothing has changed
    assert container.ended == [SSHD, 1501]


def test_whoever_comes_in_although_off_the_list_is_out_again(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "present", lambda: {1500, 1501})
    container.look()
    assert container.ended == []  # before there is a list
    (container.place / "list").write_text(raw("ada"))
    container.look()
    container.look()
    assert container.ended == [1501, 1501]


def test_a_full_disk_keeps_nobody_in_and_ends_nothing_else(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (container.place / "list").write_text(raw("ada", "bob"))
    container.look()
    (container.place / "list").write_text(raw("ada"))
    write = service._replace

    def full(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service, "_replace", full)
    container.look()
    container.look()
    assert container.ended == [SSHD, 1501] * 2
    monkeypatch.setattr(service, "_replace", write)
    container.look()
    assert "bob" not in (container.place / "passwd").read_text()
    container.look()
    assert container.ended == [SSHD, 1501] * 3


@pytest.mark.parametrize(("lives", "starts"), [("sleep 0.4", 3), ("", 1)])
def test_the_runs_outlive_sshd(
    container: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lives: str, starts: int
) -> None:
    """Somebody else may have its port when it begins anew. What never began is told, and Docker begins again."""
    sshd = tmp_path / "sshd"
    sshd.write_text(f"#!/bin/sh\necho >> {tmp_path}/starts\n{lives}\nexit 255\n")
    sshd.chmod(0o755)

    def started() -> int:
        return len((tmp_path / "starts").read_text().split("\n")) - 1 if (tmp_path / "starts").exists() else 0

    for name, value in {"SSHD": str(sshd), "_EVERY": 0.2, "open_door": lambda _port: 0}.items():
        monkeypatch.setattr(service, name, value)
    monkeypatch.setattr(container, "configure", lambda: None)
    monkeypatch.setattr(container, "look", lambda: setattr(container, "ending", started() == 3))
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        assert container.run() == 255
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert started() == starts


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "accounts": [{}]}'])
def test_a_list_that_cannot_be_read_lets_nobody_in_or_out(container: Any, text: str) -> None:
    (container.place / "list").write_text(raw("ada", "bob"))
    container.look()
    (container.place / "list").write_text(text)
    container.look()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == "bob:1501:1501"
    assert container.ended == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to accounts")
def test_what_a_former_account_of_that_name_had_is_not_the_new_ones(tmp_path: Path) -> None:
    service.make_place(Account("ada", 64001, 64001), tmp_path)
    (tmp_path / "ada/secret").write_text("")
    service.make_place(Account("ada", 64001, 64001), tmp_path)
    assert (tmp_path / "ada/secret").exists()
    service.make_place(Account("ada", 64002, 64002), tmp_path)
    status = (tmp_path / "ada").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (64002, 0o700)
    assert not (tmp_path / "ada/secret").exists()
    service.make_place(Account("bob", 64003, 64003), tmp_path)
    (tmp_path / "bob").chmod(0o777)
    service.close_places(People((Account("ada", 64002, 64002), Account("carol", 64003, 64003))), tmp_path)
    owners = {path.name.partition(".")[0]: path.stat().st_uid for path in sorted(tmp_path.iterdir(), reverse=True)}
    assert owners == {"ada": 64002, "bob": 0}
    assert {path.stat().st_uid for path in tmp_path.glob("ada.*")} == {0}
    assert stat.S_IMODE((tmp_path / "bob").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["root", "sshd", "nobody", "staff", "nogroup"])
def test_nobody_takes_the_name_of_an_account_of_the_systems(name: str) -> None:
    ada, lab = Account("ada", 1501, 1501), Group("lab", 1601, ())
    people = People((Account(name, 1500, 1500), ada), (lab,))
    assert accounts.without_systems(people, PASSWD, GROUP) == (People((ada,), (lab,)), [name])
    people = People((ada,), (lab, Group(name, 1600, ())))
    group = f"{GROUP}{name}:x:90:\n"
    assert accounts.without_systems(people, PASSWD, group) == (People((ada,), (lab,)), [name])


def test_the_images_own_people_are_nobody_of_the_systems() -> None:
    people = People((Account("ubuntu", 1500, 1500),), (Group("dan", 1503, ()),))
    assert accounts.without_systems(people, PASSWD, GROUP) == (people, [])


def test_a_container_that_starts_again_finds_the_accounts_it_had() -> None:
    """Of a directory service they may have large numbers."""
    people = People((Account("eve", 1100200, 1100200),), (Group("domain users", 70000, ("eve",)),))
    passwd, group = accounts.passwd(PASSWD, people, "/bin/bash"), accounts.group(GROUP, people)
    assert accounts.without_systems(people, passwd, group) == (people, [])
    assert (accounts.passwd(passwd, people, "/bin/bash"), accounts.group(group, people)) == (passwd, group)


def test_the_door_leads_to_sshd_and_leaves_each_account_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_EACH", 2)
    monkeypatch.setattr(service, "_NOBODY", os.getuid())
    with socket.create_server(("127.0.0.1", 0)) as sshd:
        sshd.settimeout(20)
        pid = service.open_door(sshd.getsockname()[1], tmp_path / "socket")
        try:
            assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o666
            inside = [(_enter(tmp_path), sshd.accept()[0]) for _connection in range(2)]
            for here, there in inside:
                here.sendall(b"hello")
                assert there.recv(5) == b"hello"
                there.sendall(b"SSH-2")
                assert here.recv(5) == b"SSH-2"
            assert _enter(tmp_path).recv(1) == b""
            for one in inside[0]:
                one.close()
            until = time.monotonic() + 10
            while not _enter_and_speak(tmp_path, sshd):
                assert time.monotonic() < until
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _enter(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(place / "socket"))
    return connection


def _enter_and_speak(place: Path, sshd: socket.socket) -> bool:
    connection = _enter(place)
    sshd.settimeout(0.5)
    try:
        there = sshd.accept()[0]
    except TimeoutError:
        return False
    connection.sendall(b"x")
    return there.recv(1) == b"x"


# In a list of processes of its own: nothing else of this machine is looked at. Of two accounts, one ignores all that it
# may, has new processes all the time, and stops whatever it may stop.
ENDS = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from mesh_run import service

def begin(uid, work):
    pid = os.fork()
    if not pid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        work()
    return pid

def multiply():
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not os.fork():
            time.sleep(0.2)
            os._exit(0)
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                os.kill(pid, 0 if pid == os.getpid() else signal.SIGSTOP)
            except OSError:
                pass

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
bystander = begin(64002, lambda: time.sleep(60))
root = os.fork()
if not root:
    time.sleep(60)
begin(64001, multiply)
time.sleep(1)
assert service.present() == {64001, 64002}, service.present()
assert 64001 in service.present()
service.end_all(64001)
assert os.getresuid() == (0, 0, 0)
assert service.present() == {64002}, service.present()
os.kill(root, 0)
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other accounts")
def test_all_that_an_account_has_ends_and_nothing_else() -> None:
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", ENDS]
    files = str(Path(service.__file__).parents[1])
    done = subprocess.run([*words, files], capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "done\n", done.stderr
