"""Accounts of a directory: which services there are, what hides behind local accounts, and a directory that is away."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.directory_services import is_away, services
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import DesiredAccount, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal

ROOT = "root:x:0:0:root:/root:/bin/bash"
LOCAL = f"{ROOT}\nada:x:1500:1500::/home/ada:/bin/sh\n"
# In a directory that lists nobody: eve alone, and ada with another uid.
DIRECTORY = {"eve": "eve:*:1700:1700:Eve:/home/eve:/bin/sh", "ada": "ada:*:1600:1600:Ada:/home/ada:/bin/sh"}
NSSWITCH = {
    "passwd: files systemd sss\n": ("sss",),
    "# passwd: sss\npasswd:\tfiles [!SUCCESS=continue] ldap # sss\ngroup: sss\n": ("ldap",),
    "passwd:sss files\npasswd: files\n": ("sss",),
    "passwd: files systemd\n": (),
    "group: files sss\n": (),
    "": (),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host whose accounts come from its files and from sssd, which knows the directory."""
    for name, text in {
        "etc/nsswitch.conf": "passwd: files sss\n",
        "etc/sssd/sssd.conf": "",
        "etc/nslcd.conf": "",
        "etc/passwd": LOCAL,
        "etc/group": "ada:x:1500:\nml:x:1900:\n",
        "etc/shadow": "",
        "proc/41/comm": "sssd_be",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def pipe(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """sssd listens. By a short name: those of sockets have 107 characters at most."""
    (root / "var/lib/sss/pipes").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root / "var/lib/sss/pipes")
        server.bind("nss")
        server.listen()
        yield


class Host:
    """What its commands answer; `cached` are those of the directory whom it still knows."""

    def __init__(self, cached: Sequence[str] = tuple(DIRECTORY), journal: str = "", fails: str = "") -> None:
        self.cached, self.journal, self.fails, self.asked = cached, journal, fails, list[str]()

    def run(self, argv: Sequence[str], data: str) -> tuple[int, str, str]:
        self.asked.append(" ".join(argv))
        if argv[0] == "journalctl":
            said = self.journal if "_SYSTEMD_UNIT=sssd.service" in argv else f"{self.journal}{FORGED}"
            return (0 if said else 1), said, ""
        service, keys = (argv[2], argv[4:]) if argv[1] == "-s" else ("", argv[2:])
        if "[NOTFOUND=return]" in service:
            return (0, f"{self.fails}\n", "") if self.fails else (2, "", "")
        local = [] if service else [line.split(":") for line in LOCAL.split()]
        remote = [DIRECTORY[name].split(":") for name in self.cached]
        if "group" in argv:
            return 2, "", ""
        found = [
            ":".join(next(row for row in (*local, *remote) if key in (row[0], row[2])))
            for key in keys
            if any(key in (row[0], row[2]) for row in (*local, *remote))
        ]
        return (0 if len(found) == len(keys) else 2), "".join(f"{line}\n" for line in found), ""


def desired(name: str, uid: int, *groups: str) -> DesiredAccount:
    return DesiredAccount(name, uid, uid, name, groups=groups)


def refused(root: Path, host: Host, *declared: DesiredAccount) -> dict[str, str]:
    problems: list[Refusal] = []
    plan(observe(host.run, declared, root / "state", root), declared, problems)
    return {one.name: str(one) for one in problems}


@pytest.mark.parametrize("text", NSSWITCH)
def test_which_services_a_host_has(root: Path, text: str) -> None:
    (root / "etc/nsswitch.conf").write_text(text)
    assert services(root) == NSSWITCH[text]


def test_one_that_is_named_and_not_configured_is_none(root: Path) -> None:
    """Images of some vendors name sss in nsswitch.conf, and have no domain."""
    (root / "etc/sssd/sssd.conf").unlink()
    assert services(root) == ()
    (root / "etc/sssd/conf.d").mkdir()
    (root / "etc/sssd/conf.d/a.conf").touch()
    assert services(root) == ("sss",)
    (root / "etc/nsswitch.conf").unlink()
    assert services(root) == ()


@pytest.mark.usefixtures("pipe")
def test_an_account_of_a_directory_that_lists_nobody_is_matched(root: Path) -> None:
    host = Host()
    (change,) = plan(observe(host.run, [desired("eve", 1700)], root / "state", root), [desired("eve", 1700)])
    assert not change.changed and change.after == Account("eve", 1700, 1700, "Eve", "/home/eve", "/bin/sh")
    assert "getent passwd 1700 eve" in host.asked  # and never `getent passwd` alone


@pytest.mark.usefixtures("pipe")
@pytest.mark.parametrize("uid", [1500, 1600, 1800], ids=["as it is", "as in the directory", "a third one"])
def test_an_account_that_is_there_twice_with_two_uids_is_named_and_stays(root: Path, uid: int) -> None:
    found = refused(root, Host(), desired("ada", uid))
    assert list(found) == ["ada"]
    assert "'ada' is there twice, with 1500:1500 in /etc/passwd and 1600:1600 in the directory service" in found["ada"]
    assert "userdel ada" in found["ada"]


@pytest.mark.usefixtures("pipe")
def test_a_twin_with_the_same_uid_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIRECTORY, "ada", "ada:*:1500:100::/home/ada:/bin/sh")
    assert refused(root, Host(), desired("ada", 1500)) == {}


@pytest.mark.usefixtures("pipe")
def test_who_has_the_uid_in_a_directory_is_not_renumbered_for_it(root: Path) -> None:
    found = refused(root, Host(), desired("zoe", 1700))
    assert "uid 1700 belongs to 'eve'" in found["zoe"] and "the directory is not ours" in found["zoe"]


OFFLINE = "Nov 29 20:00:01 gpu01 sssd_be[{}]: Backend is offline\n"
ONLINE = OFFLINE.replace("offline", "online")
# By a process of an account's with that name.
FORGED = OFFLINE.format(42) + ONLINE.format(41)
STATES = {
    "never said": ("", False),
    "offline": (OFFLINE.format(41), True),
    "online again": (OFFLINE.format(41) + ONLINE.format(41), False),
    "of a process that has ended": (OFFLINE.format(40), False),
    "one of two domains": (OFFLINE.format(41) + ONLINE.format(42), True),
    "as older ones write it": (OFFLINE.format(41).replace("sssd_be", "sssd[be[example.org]]"), True),
}


@pytest.mark.usefixtures("pipe")
@pytest.mark.parametrize("state", STATES)
def test_sssd_is_offline_where_a_domain_that_runs_said_so_last(root: Path, state: str) -> None:
    said, away = STATES[state]
    assert is_away("sss", Host(journal=said).run, root) is away


def test_another_service_is_away_where_the_next_one_is_asked(root: Path) -> None:
    answers = {ROOT: True, "": False, "root:*:0:0:of the directory:/:/bin/sh": False}
    assert {line: is_away("ldap", Host(fails=line).run, root) for line in answers} == answers


def test_nobody_is_made_renumbered_or_put_into_a_new_group_while_the_directory_is_away(root: Path) -> None:
    """getent says of eve that she is nowhere, and made now she would be there twice."""
    declared = [desired("eve", 1700), desired("ada", 1500), desired("ada", 1501), desired("ada", 1500, "physics")]
    for one, away in zip(declared, (True, False, True, True)):
        found = refused(root, Host(cached=[]), one)  # sssd does not listen
        assert bool(found) is away, one
        assert not away or "the directory service does not answer for account" in found[one.name]
    assert refused(root, Host(cached=[]), desired("ada", 1500, "ml")) == {}


@pytest.mark.usefixtures("pipe")
def test_who_is_in_the_cache_of_sssd_is_matched_while_it_is_offline(root: Path) -> None:
    host = Host(cached=["eve"], journal=OFFLINE.format(41))
    assert refused(root, host, desired("eve", 1700), desired("zoe", 1800)).keys() == {"zoe"}


@pytest.mark.parametrize("code", [124, 137])
def test_a_directory_that_hangs_is_no_answer_however_it_was_ended(root: Path, code: int) -> None:
    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return (code, "", "") if argv[0] == "getent" else (1, "", "")

    assert list(refused(root, type("Hangs", (Host,), {"run": staticmethod(run)})(), desired("eve", 1700))) == ["eve"]


def test_getent_that_fails_is_an_error(root: Path) -> None:
    with pytest.raises(GpusteadError, match="exited with 1"):
        observe(lambda argv, data: (1, "", "Unknown database"), [desired("eve", 1700)], root / "state", root)


def test_without_directories_nothing_more_is_asked(root: Path) -> None:
    (root / "etc/nsswitch.conf").write_text("passwd: files systemd\n")
    host = Host(cached=[])
    observe(host.run, [desired("ada", 1500), desired("zoe", 1800)], root / "state", root)
    assert [line.split(" ")[:2] for line in host.asked] == [["getent", "passwd"], ["getent", "group"]]
