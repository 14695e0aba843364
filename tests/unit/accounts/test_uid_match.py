"""Reading accounts, planning them, and changing the files of those that are renumbered."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import apply_accounts, freed_ids
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_accounts import (
    apply,
    former_ids,
    remember_ids,
    remove,
    write_journal,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.freed_ids import Ids
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    Account,
    Group,
    HostAccounts,
    Process,
    Renumbering,
    StateBeforeLock,
    parse_group,
    parse_passwd,
    processes_of,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import (
    find_namespaces,
    login_uid,
    observe,
    read_journal,
    read_processes,
    read_record,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.removal import Removal, plan_removals, removable
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.renumber_files import renumber_files
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import (
    NOWHERE,
    AccountChange,
    DesiredAccount,
    plan,
    plan_extras,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal

FIXTURES = Path(__file__).parents[1] / "fixtures" / "getent"
ADA = Account("ada", 1001, 1001, "", "/home/ada", "/bin/sh")
BOB = Account("bob", 1002, 1002, "", "/home/bob", "/bin/sh")
BACKUP = Account("backup", 34, 34, "", "/var/backups", "/usr/sbin/nologin")
NOBODY = Account("nobody", 65534, 65534, "", "/nonexistent", "/usr/sbin/nologin")
LDAP = Account("eve", 1700, 1700, "", "/home/eve", "/bin/sh")
HOST = HostAccounts(
    accounts=(ADA, BOB, BACKUP),
    groups=(Group("ada", 1001), Group("bob", 1002), Group("backup", 34), Group("ml", 1900, ("bob",))),
    remote_accounts=(LDAP,),
    remote_groups=(Group("eve", 1700), Group("staffers", 1800, ("eve",))),
    hashes={"ada": "$6$a$b"},
    processes=(Process(1, "systemd", (0,)), Process(77, "python3", (0, 1002))),
)
RENUMBERING = Renumbering("ada", (1001,), (1001,), 1500, 1500, True, "/home/ada", ("/home",))
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def desired(name: str = "ada", uid: int = 1500, **others: Any) -> DesiredAccount:
    return DesiredAccount(**{"name": name, "uid": uid, "gid": uid, "group": name, **others})


@pytest.fixture(autouse=True)
def cleared(monkeypatch: pytest.MonkeyPatch) -> list[Ids | str]:
    """The ids that were looked for on the host, and the names of those whose jobs were; nothing is looked at here."""
    asked: list[Ids | str] = []

    def clear(ids: Ids) -> list[str]:
        asked.append(ids)
        if 4711 in ids.uids:
            raise GpusteadError("/x cannot be looked at", "it to be", "See.")
        return [f"looked for {sorted(ids.uids)}"]

    def remove_jobs(name: str, uid: int) -> None:
        asked.append(name)

    monkeypatch.setattr(freed_ids, "clear", clear)
    monkeypatch.setattr(freed_ids, "remove_jobs", remove_jobs)
    return asked


CORE: dict[str, tuple[DesiredAccount, list[str]]] = {
    "as it is": (desired(uid=1001), []),
    "a new account": (
        desired("zoe"),
        ["groupadd -g 1500 zoe", "useradd -m -u 1500 -g 1500 -d /home/zoe -s /bin/bash -c  zoe"],
    ),
    "a new system account": (
        desired("svc", 960, system=True),
        ["groupadd -g 960 svc", "useradd -r -M -u 960 -g 960 -d /home/svc -s /usr/sbin/nologin -c  svc"],
    ),
    "a new account in a group that is there": (
        desired("zoe", gid=1900, group="ml"),
        ["useradd -m -u 1500 -g 1900 -d /home/zoe -s /bin/bash -c  zoe"],
    ),
    "another id": (
        desired(),
        ["groupmod -g 1500 ada", f"usermod -d {NOWHERE} -u 1500 -g 1500 ada", "usermod -d /home/ada ada"],
    ),
    "another primary group": (
        desired(uid=1001, gid=1900, group="ml"),
        [f"usermod -d {NOWHERE} -u 1001 -g 1900 ada", "usermod -d /home/ada ada"],
    ),
    "another shell and comment": (
        desired(uid=1001, shell="/bin/zsh", comment="Ada L."),
        ["usermod -s /bin/zsh -c Ada L. ada"],
    ),
    "a system account, when that is said": (
        desired("backup", 35, system=True),
        ["groupmod -g 35 backup", f"usermod -d {NOWHERE} -u 35 -g 35 backup", "usermod -d /var/backups backup"],
    ),
    "a name as directories have it": (
        desired("Ada.L-1_x"),
        ["groupadd -g 1500 Ada.L-1_x", "useradd -m -u 1500 -g 1500 -d /home/Ada.L-1_x -s /bin/bash -c  Ada.L-1_x"],
    ),
    "the group that others have, too": (
        desired("zoe", gid=1002, group="bob"),
        ["useradd -m -u 1500 -g 1002 -d /home/zoe -s /bin/bash -c  zoe"],
    ),
    "a directory's account as it is": (desired("eve", 1700, shell="/bin/zsh", groups=("ml",)), []),
}


@pytest.mark.parametrize("case", CORE)
def test_core(case: str) -> None:
    wanted, expected = CORE[case]
    (change,) = plan(HOST, [wanted])
    assert [" ".join(argv) for argv in change.core] == expected
    assert change.changed is bool(expected)


def test_accounts_may_have_one_primary_group() -> None:
    """New ones, those of a directory, and one after the other is gone: the group stays."""
    zoe, yan = (desired(name, uid, gid=5000, group="staff-ml") for name, uid in (("zoe", 1501), ("yan", 1502)))
    made = [" ".join(argv) for change in plan(HOST, [zoe, yan]) for argv in change.core]
    assert [line.partition(" -d ")[0] for line in made] == [
        "groupadd -g 5000 staff-ml",
        "useradd -m -u 1501 -g 5000",
        "useradd -m -u 1502 -g 5000",
    ]
    remote = tuple(Account(one.name, one.uid, 5000, "", f"/home/{one.name}", "/bin/sh") for one in (zoe, yan))
    host = replace(HOST, remote_accounts=remote, remote_groups=(Group("staff-ml", 5000),))
    assert [change.changed for change in plan(host, [zoe, yan])] == [False, False]
    with pytest.raises(GpusteadError, match=r"gid 5000 belongs to 'staff-ml'.* or set its group to 'staff-ml'"):
        plan(host, [desired("xena", 1503, gid=5000)])


REFUSED: dict[str, tuple[DesiredAccount, str]] = {
    "uid of another": (desired(uid=1002, gid=1001), "uid 1002 belongs to 'bob'"),
    "uid of a directory's account": (desired(uid=1700, gid=1001), "uid 1700 belongs to 'eve'"),
    "gid of another": (desired(gid=1002), "gid 1002 belongs to 'bob'"),
    "gid of a directory's group": (desired(gid=1700), "gid 1700 belongs to 'eve'"),
    "a busy account": (desired("bob"), "'bob' has running processes (77 python3)"),
    "a directory's account": (desired("eve"), "of the directory service has 1700:1700"),
    "a directory's group with another gid": (desired("zoe", group="staffers"), "has gid 1800"),
    "a member for a directory's group": (desired(uid=1001, groups=("staffers",)), "'staffers' is of the directory"),
    "a system account": (desired("backup"), "a system"),
    "a system id without saying so": (desired("zoe", 500), "uid 500 of 'zoe' is a system id"),
    "root": (desired("root", 0, system=True), "id 0"),
    "the name of a group that a package makes": (desired("docker", 1505), "docker is a name that the system, or a"),
    "an option": (desired("-ada"), "account '-ada': expected a name of up to 32"),
    "a uid as a name": (desired("1500"), "account '1500': expected a name"),
    "nobody": (desired("nobody", 1505), "'nobody' is a system account, uid 65534"),
    "nobody, as a system account": (desired("nobody", 505, system=True), "'nobody' is a system account, uid 65534"),
    "nobody's group": (desired("zoe", group="nogroup"), "group 'nogroup' is a system group, gid 65534"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    wanted, message = REFUSED[case]
    host = replace(HOST, accounts=(*HOST.accounts, NOBODY), groups=(*HOST.groups, Group("nogroup", 65534)))
    with pytest.raises(GpusteadError) as caught:
        plan(host, [wanted])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


EXTRAS: dict[str, tuple[tuple[str, ...], str, list[str]]] = {
    "there already": (("ml",), "bob", []),
    "added": (("ml",), "ada", ["usermod -a -G ml ada"]),
    "made": (("ml", "gpu"), "ada", ["groupadd -f -r gpu", "usermod -a -G ml,gpu ada"]),
}


def test_who_is_absent_is_removed_and_nobody_else() -> None:
    assert removable(HOST, ["ada", "gone", "eve"], ["zoe"]) == [ADA]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bob", "running processes"),
        ("zoe", "in users and in absent"),
        ("root", "id 0"),
        ("backup", "'backup' in absent has the system id 34"),
        ("nobody", "'nobody' in absent has the system id 65534"),
        ("docker", "'docker' in absent: docker is a name that the system"),
    ],
)
def test_removals_that_are_refused(name: str, words: str) -> None:
    docker = replace(ADA, name="docker", uid=1505, gid=1505)
    host = replace(HOST, accounts=(*HOST.accounts, Account("root", 0, 0, "", "/root", "/bin/sh"), NOBODY, docker))
    with pytest.raises(GpusteadError, match=words):
        removable(host, ["ada", name], ["zoe"], ["root"])


def test_a_system_account_goes_when_it_is_named_as_one() -> None:
    assert removable(HOST, ["backup", "backup"], [], ["backup"]) == [BACKUP]


@pytest.mark.parametrize(
    ("group", "others", "goes"),
    [
        (Group("ada", 1001), (), True),
        (Group("ada", 1001, ("ada",)), (), True),
        (Group("ada", 1001, ("bob",)), (), False),
        (Group("ada", 1001), (replace(BOB, gid=1001),), False),
        (Group("ada", 2001), (), False),
        (Group("ml", 1001), (), False),
    ],
)
def test_the_group_goes_with_the_account_if_it_is_its_own(
    group: Group, others: tuple[Account, ...], goes: bool, tmp_path: Path, cleared: list[Ids | str]
) -> None:
    done: list[str] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        done.append(" ".join(argv))
        return (6 if argv[0] == "groupdel" else 0), "", "no such group"

    host = HostAccounts(accounts=(ADA, *others), groups=(group,))
    (left,) = remove(run, host, [ADA], tmp_path, proc=tmp_path)
    assert cleared == ["ada"]
    assert left.removed and left.texts()[1] == "files of 1001:1001 stay, /home/ada too\n"
    assert [line for line in done if "del " in line] == ["userdel ada", "groupdel ada"][: 1 + goes]


def test_a_group_of_a_directory_service_with_the_name_stays(tmp_path: Path, cleared: list[Ids | str]) -> None:
    """userdel has taken the local one, and groupdel would end with an error for the other."""
    done: list[str] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        done.append(argv[0])
        return (2 if argv[0] == "getent" else 0), "", ""

    (left,) = remove(run, HostAccounts(accounts=(ADA,), groups=(Group("ada", 1001),)), [ADA], tmp_path, proc=tmp_path)
    assert left.removed and "userdel" in done and "groupdel" not in done


@pytest.mark.parametrize("case", EXTRAS)
def test_supplementary_groups(case: str) -> None:
    groups, name, expected = EXTRAS[case]
    account = HOST.account(name)
    assert account
    (change,) = plan(HOST, [desired(name, account.uid, groups=groups)])
    assert [" ".join(argv) for argv in change.extras] == expected


def test_a_membership_that_was_given_is_taken_back() -> None:
    """Nobody else's, none that is declared, and none that it does not have."""
    (change,) = plan(
        replace(HOST, groups=(*HOST.groups, Group("docker", 998, ("bob",)), Group("sudo", 27, ("bob",)))),
        [desired("bob", 1002, groups=("ml",), former_groups=("ml", "docker", "gone", "staffers", "ada"))],
    )
    assert [" ".join(argv) for argv in change.extras] == ["gpasswd --delete bob docker"]
    host = replace(HOST, groups=(Group("sudo", 27, ("bob",)),), login=1002)
    with pytest.raises(GpusteadError, match=r"'sudo' of 'bob', as which Ansible logs in, is not declared any more"):
        plan(host, [desired("bob", 1002, former_groups=("sudo",))])


MEMBER = """
import ctypes, os, sys, threading
call, (groups, ids) = ctypes.CDLL(None, use_errno=True).syscall, {calls}
wanted, stop = (ctypes.c_uint * 1)({gid}), threading.Event()

def become(number):  # without the library, which has all threads do the same
    assert call(groups, number, wanted) == 0 and call(ids, {uid}, {uid}, {uid}) == 0

def work():
    become(1)
    print(flush=True)
    stop.wait()

if {alone}:
    threading.Thread(target=work, daemon=True).start()
    become(0)
else:
    become(1)
    print(flush=True)
sys.stdin.read()
"""
IN_CONTAINER = "import ctypes; assert not ctypes.CDLL(None).unshare(0x20000)\n"  # mounts of its own, from root
CALLS = (116, 117) if os.uname().machine == "x86_64" else (159, 147)


@ROOT_ONLY
@pytest.mark.parametrize("alone", [False, True], ids=["all of it", "one thread"])
@pytest.mark.parametrize("uid", [61700, 165_000])
def test_who_has_left_a_group_has_nothing_in_it(
    tmp_path: Path, cleared: list[Ids | str], uid: int, alone: bool
) -> None:
    """What runs keeps its groups, and makes programs that give them back."""
    docker = Group("docker", 61777, ("ada",))
    account = replace(ADA, uid=61700, gid=61700)
    host = HostAccounts((account,), (Group("ada", 61700), docker), subuids={"ada": ((165_000, 10),)})
    after = replace(host, groups=(Group("ada", 61700), replace(docker, members=())))
    users = [desired(uid=61700, former_groups=("docker",)), desired("bob", 1002)]

    def applied(found: HostAccounts) -> list[str]:
        refused: list[Refusal] = []
        done = apply(lambda argv, data: (0, "", ""), plan(found, users), tmp_path, refused)
        assert "bob" in [change.desired.name for change in done]
        return [str(one) for one in refused]

    command = [sys.executable, "-c", MEMBER.format(uid=uid, gid=docker.gid, alone=alone, calls=CALLS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as member:
        assert member.stdin and member.stdout and member.stdout.readline()
        for found in (host, after):  # also when it is no member any more
            (said,) = applied(found)
            assert f"'ada' is taken out of group 'docker', and has processes in it ({member.pid} " in said
            assert "loginctl terminate-user ada" in said and not cleared
        member.stdin.close()
    assert applied(after) == []
    assert cleared == [Ids(members=frozenset([(61700, 61777)]))]
    assert applied(after) == [] and len(cleared) == 1


@ROOT_ONLY
def test_a_container_has_groups_of_its_own(tmp_path: Path) -> None:
    host = HostAccounts((replace(ADA, uid=61700),), (Group("docker", 61777, ("ada",)),))
    users = [desired(uid=61700, gid=1001, former_groups=("docker",))]
    script = IN_CONTAINER + MEMBER.format(uid=61700, gid=61777, alone=False, calls=CALLS)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as member:
        assert member.stdin and member.stdout and member.stdout.readline()
        apply(lambda argv, data: (0, "", ""), plan(host, users), tmp_path)
        member.stdin.close()


def test_who_is_in_a_group_again_has_left_none(tmp_path: Path, cleared: list[Ids | str]) -> None:
    host = replace(HOST, groups=(*HOST.groups, Group("docker", 998, ("ada",))))
    (tmp_path / "ada.left").write_text('{"docker": 998}')
    apply(lambda argv, data: (0, "", ""), plan(host, [desired(uid=1001, groups=("docker",))]), tmp_path)
    assert not cleared and not list(tmp_path.iterdir())
    (tmp_path / "ada.left").write_text("[")
    with pytest.raises(GpusteadError, match=r"ada.left cannot be read"):
        apply(lambda argv, data: (0, "", ""), plan(host, [desired(uid=1001)]), tmp_path)


RANGES = {"ada": ((100_000, 65_536), (1_000_000, 65_536)), "lxd": ((400_000, 65_536),)}


def test_nobody_becomes_another_by_subordinate_ids() -> None:
    zoe, yan = desired("zoe", 100_500), desired("yan", 400_001)
    host = replace(HOST, subuids=RANGES, subgids={"ada": ((100_000, 65_536),)})
    refused: list[Refusal] = []
    ada, new = plan(host, [desired(uid=1001), zoe, yan], refused)
    taken = ["usermod --del-subuids 100000-165535 ada", "usermod --del-subgids 100000-165535 ada"]
    assert [" ".join(argv) for argv in ada.core] == taken
    assert [" ".join(argv) for argv in new.core][:3] == ["groupadd -g 100500 zoe", *taken]
    assert new.core[-1][:6] == ("useradd", "-m", "-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0")
    (refusal,) = refused
    assert refusal.name == "yan" and "id 400001 of 'yan' is among the subordinate ids of 'lxd'" in refusal.what
    (change,) = plan(host, [desired(uid=1001)])  # no id is within them
    assert change.core == ()


@pytest.mark.parametrize("uid", [1001, 100_007])
def test_ids_that_something_runs_with_are_not_another_accounts_yet(uid: int) -> None:
    """What runs keeps the ids that its user namespace was made with."""
    runs = (Process(8, "podman", (uid,)), Process(9, "bash", (1001,)))
    busy = replace(HOST, processes=runs, subuids=RANGES, subgids={}, in_namespaces=frozenset([8]))
    refused: list[Refusal] = []
    assert [one.desired.name for one in plan(busy, [desired(uid=1001), desired("zoe", 100_500)], refused)] == []
    assert [one.name for one in refused] == ["ada", "zoe"]
    assert {one.what for one in refused} == {
        "subordinate ids 100000:65536 of 'ada' hold an account's, and processes have them (8 podman)"
    }
    assert "loginctl terminate-user ada" in refused[0].remedy
    assert plan(busy, [desired(uid=1001), desired("zoe", 1601)])[1].core


NAMESPACE = """
import ctypes, os, sys, time
if os.fork() == 0:
    assert not ctypes.CDLL(None).unshare(0x10000000)
    os.write(1, b"inside %d\\n" % os.getpid())  # each line at once: both write into one pipe
    time.sleep(60)
    os._exit(0)
{hold}
os.write(1, b"above %d\\n" % os.getpid())
sys.stdin.read()
os.kill(0, 15)
"""
HOLD = """
time.sleep(0.3)
child = [int(one) for one in open(f"/proc/self/task/{os.getpid()}/children").read().split()][0]
kept = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
"""


@ROOT_ONLY
@pytest.mark.parametrize("hold", ["", HOLD])
def test_who_is_in_a_user_namespace_or_holds_one_is_found(hold: str) -> None:
    command = [sys.executable, "-c", NAMESPACE.format(hold=hold)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as one:
        assert one.stdin and one.stdout
        said = dict(one.stdout.readline().split() for _each in range(2))
        found = find_namespaces(Path("/proc"))
        one.stdin.close()
    assert int(said[b"inside"]) in found
    assert (int(said[b"above"]) in found) is bool(hold)
    with pytest.raises(GpusteadError, match="too many files open"):
        find_namespaces(Path("/proc"), -1)


def test_ids_are_handed_on_once_nothing_is_left_under_them(tmp_path: Path, cleared: list[Ids | str]) -> None:
    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return 0, "", ""

    quiet = replace(HOST, processes=())
    told: list[str] = []
    for uid in (1500, 1601, 1602, 4711):
        remember_ids(tmp_path, replace(ADA, uid=uid, gid=uid))
    users = [desired(uid=1500), desired("bob", 1001), desired("zoe", 1601), desired("svc", 960, system=True)]
    users += [desired("yan", 1602, gid=1900, group="ml")]
    apply(run, plan(quiet, users), tmp_path, [], told)
    free = Ids(frozenset([1500, 1601, 1602]), frozenset([1500, 1601]))
    assert cleared == [free, Ids(frozenset([1001]), frozenset([1001]))]
    assert told == ["looked for [1500, 1601, 1602]", "looked for [1001]"]
    cleared.clear()
    refused: list[Refusal] = []
    users = [desired(uid=1001, groups=("ml",)), desired("zoe", 4711), desired("yan", 1602)]
    done = apply(run, plan(quiet, users), tmp_path, refused)
    assert [change.desired.name for change in done] == ["ada"]
    assert [one.name for one in refused] == ["zoe", "yan"] and len(cleared) == 1


def test_subordinate_ids_are_handed_on_once_nothing_is_left_under_them(
    tmp_path: Path, cleared: list[Ids | str]
) -> None:
    """The next account that is made gets those of one that went; and who has one of them as its own, it alone."""

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return 0, "", ""

    quiet = replace(HOST, processes=(), subuids={"ada": ((100_000, 10),)}, subgids={"ada": ((100_000, 10),)})
    remove(run, quiet, [ADA], tmp_path, proc=tmp_path)
    cleared.clear()
    without = replace(HOST, processes=(), accounts=tuple(one for one in HOST.accounts if one != ADA))
    apply(run, plan(without, [desired("svc", 960, system=True)]), tmp_path)
    assert cleared == []
    apply(run, plan(without, [desired("zoe", 1601)]), tmp_path)
    assert cleared == [Ids(ranges=frozenset([(100_000, 10)]))]
    apply(run, plan(without, [desired("yan", 1602)]), tmp_path)
    assert len(cleared) == 1  # they are somebody's now, who may do with them what they like

    cleared.clear()
    users = [desired(uid=1001), desired("zoe", 100_005)]
    assert [one.desired.name for one in apply(run, plan(quiet, users), tmp_path)] == ["ada", "zoe"]
    both = frozenset([100_005])
    assert cleared == [Ids(both, both, ranges=frozenset([(100_000, 10)]))]
    assert former_ids(tmp_path).ranges == {(100_000, 10)}


def test_a_renumbering_that_was_cut_short_takes_nothing_from_the_account(
    tmp_path: Path, cleared: list[Ids | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Part of its files have the new ids by then, setuid programs of its own among them."""
    monkeypatch.setattr(apply_accounts, "renumber_files", lambda _root, _renumbering: None)
    remember_ids(tmp_path, replace(ADA, uid=1500, gid=1500))
    changes = plan(replace(HOST, processes=()), [desired(uid=1500)])
    assert changes[0].renumbering is not None
    write_journal(tmp_path / "ada.json", changes[0].renumbering)
    apply(lambda _argv, _data: (0, "", ""), changes, tmp_path)
    assert cleared == []
    apply(lambda _argv, _data: (0, "", ""), changes, tmp_path)
    assert cleared != []


def test_the_host_is_walked_for_no_id_that_nobody_had(tmp_path: Path, cleared: list[Ids | str]) -> None:
    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return 0, "", ""

    assert former_ids(tmp_path) == Ids()
    apply(run, plan(replace(HOST, processes=()), [desired("zoe", 1601)]), tmp_path)
    assert cleared == []
    remove(run, replace(HOST, processes=()), [ADA], tmp_path, proc=tmp_path)
    assert former_ids(tmp_path) == Ids(frozenset([ADA.uid]), frozenset([ADA.gid]))


def test_what_runs_under_subordinate_ids_is_an_accounts_too() -> None:
    ranges = ((100_000, 65_536),)
    others = [Process(8, "sleep", (165_536,)), Process(9, "sleep", (99_999,)), Process(7, "sh", (100_000, 165_535))]
    assert processes_of(ADA, others, ranges) == "7 sh"
    assert processes_of(ADA, others) == ""
    host = replace(HOST, processes=tuple(others), subuids={"ada": ranges})
    refused: list[Refusal] = []
    (left,) = plan_removals(host, [ADA], refused)
    assert not left.removed and "7 sh" in refused[0].what


@pytest.mark.parametrize(("given", "changed"), [(None, False), ("$6$a$b", False), ("$6$a$c", True)])
def test_password(given: str | None, changed: bool) -> None:
    (change,) = plan(HOST, [desired(uid=1001, password_hash=given)])
    assert change.changed is changed
    assert "$6$" not in f"{change.texts()} {change} {HOST}"


def test_an_id_may_be_taken_once_a_former_account_of_the_batch_has_left_it() -> None:
    quiet = replace(HOST, processes=())
    assert all(change.renumbering for change in plan(quiet, [desired(uid=1500), desired("bob", 1001)]))
    with pytest.raises(GpusteadError, match="'ada'"):
        plan(quiet, [desired("bob", 1001), desired(uid=1500)])


JOURNALS: dict[str, tuple[HostAccounts, DesiredAccount, tuple[int, ...], tuple[int, ...]]] = {
    "killed before usermod": (HOST, desired(), (1001,), (1001,)),
    "killed after usermod": (
        replace(HOST, accounts=(replace(ADA, uid=1500, gid=1500, home=NOWHERE),), groups=(Group("ada", 1500),)),
        desired(),
        (1001,),
        (1001,),
    ),
    "then called back": (HOST, desired(uid=1001), (1500,), (1500,)),
    "then sent elsewhere": (HOST, desired(uid=1600), (1001, 1500), (1001, 1500)),
}


@pytest.mark.parametrize("case", JOURNALS)
def test_what_was_begun_is_finished(case: str) -> None:
    host, wanted, uids, gids = JOURNALS[case]
    (change,) = plan(replace(host, journals={"ada": RENUMBERING}), [wanted])
    assert change.renumbering
    assert (change.renumbering.old_uids, change.renumbering.old_gids) == (uids, gids)
    assert (change.after.uid, change.after.home) == (wanted.uid, "/home/ada")


def test_files_whose_owner_is_not_clear_are_left() -> None:
    taken = (replace(ADA, uid=1500, gid=1500), replace(BOB, uid=1001))
    host = HostAccounts(accounts=taken, groups=(Group("ada", 1500),), journals={"ada": RENUMBERING})
    with pytest.raises(GpusteadError, match="former uid 1001 of 'ada' belongs to 'bob' too"):
        plan(host, [desired()])


def test_journal_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ada.json"
    write_journal(path, RENUMBERING)
    assert read_journal(path) == RENUMBERING
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text('{"name": "ada"}')
    with pytest.raises(GpusteadError, match=str(path)):
        read_journal(path)


@pytest.mark.parametrize(
    ("ids", "whole", "expected"),
    [
        ((1001, 1001), True, (1500, 1500)),
        ((1001, 100), True, (1500, 100)),
        ((0, 1001), True, (0, 1500)),
        ((0, 1001), False, (0, 1001)),
        ((1500, 1001), False, (1500, 1500)),
        ((1002, 1002), True, (1002, 1002)),
    ],
)
def test_ids_of_files(ids: tuple[int, int], whole: bool, expected: tuple[int, int]) -> None:
    assert replace(RENUMBERING, whole_group=whole).ids(*ids) == expected


@ROOT_ONLY
def test_files_get_the_new_ids(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "deep").mkdir(parents=True)
    outside.write_text("")
    (root / "deep" / "file").write_text("")
    (root / "tool").write_text("")
    (root / "others").write_text("")
    (root / "link").symlink_to(outside)
    os.mkfifo(root / "fifo")
    given = [root / "deep", root / "deep" / "file", root / "tool", root / "link", root / "fifo", outside]
    for path in given:
        os.lchown(path, 1001, 1001)
    (root / "tool").chmod(0o4750)
    renumber_files(str(root), RENUMBERING)
    renumber_files(str(tmp_path / "missing"), RENUMBERING)
    assert {path.lstat().st_uid for path in given[:-1]} == {1500}
    assert (outside.stat().st_uid, (root / "others").stat().st_uid) == (1001, 0)
    assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o4750


def test_apply_goes_in_order_and_keeps_the_hash_off_the_command_line(tmp_path: Path) -> None:
    calls: list[tuple[str, str]] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        calls.append((" ".join(argv), data))
        return 0, "", ""

    changes: list[AccountChange] = plan(
        HOST, [desired("zoe", groups=("gpu",), password_hash="$6$x$y"), desired("yan", 1501)]
    )
    apply(run, changes, tmp_path)
    names = [argv.split()[0] for argv, _ in calls]
    assert names == ["groupadd", "useradd", "groupadd", "useradd", "groupadd", "usermod", "chpasswd"]
    assert calls[-1] == ("chpasswd -e", "zoe:$6$x$y\n")
    assert "$6$" not in " ".join(argv for argv, _ in calls)


def test_observe(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("ada:x:1001:1001::/home/ada:/bin/sh\n+::::::\n")
    (tmp_path / "etc" / "group").write_text("ada:x:1001:\nml:x:1900:ada,bob\n")
    (tmp_path / "etc" / "shadow").write_text("ada:$6$a$b:1::::::\n")
    (tmp_path / "etc" / "subuid").write_text("ada:100000:65536\nx\nada:400000:2\n")
    (tmp_path / "proc" / "77").mkdir(parents=True)
    (tmp_path / "proc" / "77" / "status").write_text("Name:\tsleep\nUid:\t1001\t1001\t0\t1001\n")
    asked = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        asked.append(list(argv))
        known = "eve:x:1700:1700::/home/eve:/bin/sh\nada:x:1001:1001::/home/ada:/bin/sh\n"
        return 2, known if argv[1] == "passwd" else "eve:x:1700:\n", ""

    host = observe(run, [desired(groups=("ml",)), desired("eve", 1700)], tmp_path / "state", tmp_path)
    assert (host.accounts, host.remote_accounts) == ((replace(ADA),), (LDAP,))
    assert host.groups[1] == Group("ml", 1900, ("ada", "bob"))
    assert host.remote_groups == (Group("eve", 1700),)
    assert host.hashes == {"ada": "$6$a$b"}
    assert host.processes == (Process(77, "sleep", (0, 1001)),)
    assert len(asked) == 2  # however many accounts
    assert (host.subuids, host.subgids) == ({"ada": ((100000, 65536), (400000, 2))}, {})


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("augeas-root-passwd.txt", 19, Account("nfsnobody", 4294967294, 499, "Anonymous NFS User", "/var/lib/nfs", "")),
        ("jc-ubuntu18-passwd.txt", 30, Account("joeuser", 1000, 1000, "Joe User", "/home/joeuser", "/bin/bash")),
        (
            "passwd-ldap-gecos-words.txt",
            2,
            Account("ABC", 10000, 10000, "ABC", "/home/ABC", "/bin/bash"),
        ),
    ],
)
def test_captured_passwd(name: str, count: int, some: Account) -> None:
    found = parse_passwd((FIXTURES / name).read_text())
    assert len(found) == count
    assert replace(some, shell=some.shell or "/sbin/nologin") in found


def test_lines_that_are_no_groups() -> None:
    assert parse_group("\n# x\n+\nbad:x:nan:\nml:x:5:\n") == [Group("ml", 5)]


def test_an_end_of_line_is_one_byte() -> None:
    """chfn takes more than Python lets stand in a line."""
    text = "ada:x:1500:1500:Ada\u2028x\x85\x0b:/home/ada:/bin/sh\nbob:x:1501:1501::/home/bob:/bin/sh\n"
    assert [account.name for account in parse_passwd(text)] == ["ada", "bob"]


# One that is refused, and the others


def test_one_that_cannot_be_as_declared_keeps_nobody_else_from_it() -> None:
    refused: list[Refusal] = []
    changes = plan(
        HOST, [desired("zoe", 1002, gid=1503), desired("bob", 1600), desired(), desired("yan", 1502)], refused
    )
    assert [change.desired.name for change in changes] == ["ada", "yan"]
    assert [one.name for one in refused] == ["zoe", "bob"]
    assert "uid 1002 belongs to 'bob'" in str(refused[0]) and "77 python3" in str(refused[1])


def test_who_waits_for_an_id_that_was_not_given_up_is_refused_too(tmp_path: Path) -> None:
    refused: list[Refusal] = []
    quiet = replace(HOST, processes=())
    declared = [desired(uid=1500, roots=()), desired("bob", 1001, roots=()), desired("yan", 1502)]
    changes = plan(quiet, declared, refused)
    assert not refused
    ran: list[str] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        ran.append(" ".join(argv))
        return (1 if argv[0] == "usermod" and argv[-1] == "ada" else 0), "", "user ada is currently used"

    done = apply(run, changes, tmp_path, refused)
    assert [change.desired.name for change in done] == ["yan"]
    assert {one.name: one.what.split(" exited")[0] for one in refused}["bob"].startswith("ids 1001:1001 of 'bob'")
    assert [line for line in ran if line.endswith("bob")] == []


def test_a_directory_service_that_hangs_for_one_is_asked_about_the_others(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group", "shadow"):
        (tmp_path / "etc" / name).write_text("")
    (tmp_path / "proc").mkdir()

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return (124, "", "") if "zoe" in argv else (2, "", "")

    declared = [desired("ada"), desired("zoe", 1503), desired("bob", 1501)]
    host = observe(run, declared, tmp_path / "state", tmp_path)
    assert host.unanswered == {"zoe"}
    refused: list[Refusal] = []
    assert [change.desired.name for change in plan(host, declared, refused)] == ["ada", "bob"]
    assert "does not answer for account 'zoe'" in refused[0].what


# The account as which Ansible logs in


LOGIN = replace(HOST, login=1001, processes=(), missing_shells=frozenset({"/bin/nosuchshell"}))
LOCKOUTS: dict[str, tuple[DesiredAccount, str]] = {
    "another uid": (desired(), "account 'ada', as which Ansible logs in, has 1001:1001"),
    "another home": (desired(uid=1001, home="/srv/ada"), "another than /home/ada, where its keys are"),
    "no shell": (desired(uid=1001, shell="/usr/sbin/nologin"), "lets nobody in"),
    "a shell that is not there": (desired(uid=1001, shell="/bin/nosuchshell"), "lets nobody in"),
}


@pytest.mark.parametrize("case", LOCKOUTS)
def test_the_login_account_stays_as_it_lets_in(case: str) -> None:
    wanted, words = LOCKOUTS[case]
    with pytest.raises(GpusteadError, match=words):
        plan(LOGIN, [wanted])
    assert plan(replace(LOGIN, login=0), [wanted])


def test_the_login_account_is_not_removed() -> None:
    refused: list[Refusal] = []
    assert removable(LOGIN, ["ada", "bob"], [], (), refused) == [BOB]
    assert "as which Ansible logs in, is not declared any more" in refused[0].what


def test_an_account_whose_directory_on_the_share_is_anothers_keeps_its_ids() -> None:
    quiet = replace(HOST, processes=())
    with pytest.raises(GpusteadError, match="has 1001:1001, and users/ada belongs to uid 1009"):
        plan(quiet, [desired(hold="users/ada belongs to uid 1009")])
    assert not plan(quiet, [desired(uid=1001, hold="users/ada belongs to uid 1009")])[0].changed
    assert plan(quiet, [desired("zoe", hold="users/zoe belongs to uid 1009")])[0].changed


def status(proc: Path, pid: int, parent: int, name: str, uid: int) -> None:
    (proc / str(pid)).mkdir(parents=True)
    text = f"Name:\t{name}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
    (proc / str(pid) / "status").write_text(text)


@pytest.mark.parametrize(
    ("chain", "login"),
    [
        ([("python3", 0), ("sudo", 0), ("sh", 1500), ("sshd-session", 1500), ("sshd-session", 0), ("sshd", 0)], 1500),
        ([("python3", 0), ("sh", 0), ("sshd", 0), ("sshd", 0)], 0),
        ([("python3", 0), ("bash", 0), ("containerd-shim", 0)], None),
    ],
)
def test_who_logged_in_is_found_above_the_process(
    tmp_path: Path, chain: list[tuple[str, int]], login: int | None
) -> None:
    for index, (name, uid) in enumerate(chain):
        status(tmp_path, 100 - index, 99 - index if index + 1 < len(chain) else 1, name, uid)
    assert login_uid(tmp_path, 100) == login


def test_a_name_with_ends_of_line_hides_no_process(tmp_path: Path) -> None:
    status(tmp_path, 7, 1, "x\x0bUid:\t0\x85\x1b[2J", 1001)
    (found,) = read_processes(tmp_path)
    assert found.uids == (1001,)
    assert found.command.isprintable()


# Accounts that go


def test_one_that_still_runs_is_locked_and_named_and_the_others_go(tmp_path: Path) -> None:
    status(tmp_path / "proc", 77, 1, "sleep", 1002)
    status(tmp_path / "proc", 78, 1, "slirp", 100_001)
    ran: list[str] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        ran.append(" ".join(argv))
        return 0, "", ""

    aside: list[str] = []

    def retire_keys(keys: Any) -> list[str]:
        aside.append(keys.name)
        return [f"{keys.home}/.ssh/authorized_keys.retired"]

    ranges: dict[str, tuple[tuple[int, int], ...]] = {"bob": ((100_000, 65_536),)}
    host = replace(HOST, hashes={"bob": "$6$x"}, lingering=frozenset({"bob"}), subuids=ranges)
    refused: list[Refusal] = []
    gone = removable(host, ["bob", "ada"], [], (), refused)
    left = remove(run, host, gone, tmp_path, refused, proc=tmp_path / "proc", retire_keys=retire_keys)
    assert ran[:3] == [
        "usermod --lock --expiredate 1 --shell /usr/sbin/nologin bob",
        "usermod --groups  bob",
        "loginctl disable-linger bob",
    ]
    assert "userdel ada" in ran and "userdel bob" not in ran and not any("kill" in line for line in ran)
    assert aside == ["bob"]
    assert [(one.account.name, one.removed, one.changed) for one in left] == [("bob", False, True), ("ada", True, True)]
    (told,) = refused
    assert (
        "77 sleep, 78 slirp" in told.what
        and "/home/bob/.ssh/authorized_keys.retired" in told.what
        and "End them" in told.remedy
    )
    assert read_record(tmp_path / "bob.locked") == StateBeforeLock("/bin/sh", "", True, ("ml",), True)
    assert read_record(tmp_path / "ada.locked") is None


def test_a_second_run_has_nothing_more_to_lock(tmp_path: Path) -> None:
    status(tmp_path / "proc", 77, 1, "sleep", 1002)
    locked = replace(BOB, shell="/usr/sbin/nologin")
    host = HostAccounts(accounts=(locked,), groups=(Group("bob", 1002),), hashes={"bob": "!$6$x"}, expiry={"bob": "1"})
    (tmp_path / "bob.locked").write_text('{"shell": "/bin/sh", "groups": []}')
    ran: list[str] = []

    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        ran.append(" ".join(argv))
        return 0, "", ""

    refused: list[Refusal] = []
    (left,) = remove(run, host, [locked], tmp_path, refused, proc=tmp_path / "proc", retire_keys=lambda _: [])
    assert (ran, left.changed, len(refused)) == ([], False, 1)
    before = read_record(tmp_path / "bob.locked")
    assert before and before.shell == "/bin/sh"


def test_keys_that_cannot_be_put_aside_do_not_keep_it_from_being_locked(tmp_path: Path) -> None:
    status(tmp_path / "proc", 77, 1, "sleep", 1002)

    def retire_keys(keys: Any) -> list[str]:
        raise GpusteadError("/home/bob/.ssh is a symbolic link", "a directory", "Renumbering it.")

    refused: list[Refusal] = []
    remove(lambda *_: (0, "", ""), HOST, [BOB], tmp_path, refused, proc=tmp_path / "proc", retire_keys=retire_keys)
    assert "its keys stay where they are (/home/bob/.ssh is a symbolic link)" in refused[0].what


def test_a_check_foresees_the_same() -> None:
    refused: list[Refusal] = []
    left = plan_removals(HOST, [ADA, BOB], refused)
    assert [(one.account.name, one.removed) for one in left] == [("ada", True), ("bob", False)]
    assert [one.name for one in refused] == ["bob"]
    assert isinstance(left[0], Removal) and "usermod --expiredate 1" in left[1].texts()[1]


def test_who_is_declared_again_gets_all_of_it_back() -> None:
    locked = replace(ADA, shell="/usr/sbin/nologin")
    before = StateBeforeLock("/bin/zsh", "20000", True, ("ml", "gone"), True)
    host = replace(HOST, accounts=(locked, BOB), locked={"ada": before})
    (change,) = plan(host, [desired(uid=1001)])
    assert change.changed and change.unlock
    assert [" ".join(argv) for argv in change.core] == [
        "usermod --expiredate 20000 --shell /bin/zsh ada",
        "usermod --unlock ada",
        "loginctl enable-linger ada",
    ]


GROUPS_OF_CLUSTER: dict[str, tuple[tuple[Group, ...], str]] = {
    "none yet": ((), ""),
    "there": ((Group("cluster", 1400, ("bob",)),), ""),
    "with another gid": ((Group("cluster", 998, ()),), "group 'cluster' has gid 998"),
    "another's gid": ((Group("staff-ml", 1400, ()),), "gid 1400 of group 'cluster' belongs to 'staff-ml'"),
}


@pytest.mark.parametrize("case", GROUPS_OF_CLUSTER)
def test_groups_of_the_cluster_have_one_gid(case: str) -> None:
    groups, said = GROUPS_OF_CLUSTER[case]
    host = HostAccounts(groups=groups)
    desired = DesiredAccount("zoe", 1500, 1500, "zoe", ("cluster",), group_ids={"cluster": 1400})
    if said:
        with pytest.raises(GpusteadError, match=said):
            list(plan_extras(host, desired))
        return
    made = [] if groups else [("groupadd", "-f", "-g", "1400", "cluster")]
    assert list(plan_extras(host, desired)) == [*made, ("usermod", "-a", "-G", "cluster", "zoe")]
