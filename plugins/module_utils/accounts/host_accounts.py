# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The accounts of a host as they are: what is observed of them, as values, and what files of the system say in text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Below it are the accounts of the system.
FIRST_USER_ID = 1000
# nobody and nogroup, and nfsnobody of older systems.
NOBODY = frozenset({65534, 4294967294})
# Where subordinate ids begin, of which useradd gives each account some: SUB_UID_MIN of login.defs.
FIRST_SUBORDINATE_ID = 100_000

Range = tuple[int, int]  # first and count


def stays(number: int, as_system: bool) -> bool:
    """Whether a uid or gid is the system's own: with `as_system` others than root's and nobody's may change."""
    return number in {0, *NOBODY} or (number < FIRST_USER_ID and not as_system)


@dataclass(frozen=True)
class Account:
    """A line of passwd."""

    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str

    def __str__(self) -> str:
        return f"{self.name}: uid={self.uid} gid={self.gid} home={self.home} shell={self.shell} ({shown(self.comment)})"


@dataclass(frozen=True)
class Group:
    """A line of group."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Process:
    """A running process and the ids in whose name it runs; `gids` are those of all its groups."""

    pid: int
    command: str
    uids: tuple[int, ...]
    gids: tuple[int, ...] = ()


@dataclass(frozen=True)
class StateBeforeLock:
    """How an account was before it was locked.

    Attributes:
        shell: its login shell.
        expire: the day on which it expires, as in /etc/shadow; empty for none.
        password: whether it had a password, which was locked.
        groups: the local supplementary groups that it was in.
        linger: whether its services ran without a login.
    """

    shell: str
    expire: str = ""
    password: bool = False
    groups: tuple[str, ...] = ()
    linger: bool = False


@dataclass(frozen=True)
class Renumbering:
    """A renumbering: which files change to which ids. This is what the journal holds."""

    name: str
    old_uids: tuple[int, ...]
    old_gids: tuple[int, ...]
    uid: int
    gid: int
    whole_group: bool
    home: str
    roots: tuple[str, ...]

    def text(self) -> str:
        """In words, for a diff."""
        old = ",".join(map(str, self.old_uids)) or self.uid
        groups = ",".join(map(str, self.old_gids)) or self.gid
        return f"files of {old}:{groups} below {' '.join(self.roots)}: {self.uid}:{self.gid}"

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        """The ids that a file with these ids gets."""
        owned = uid in self.old_uids or uid == self.uid
        regroup = gid in self.old_gids and (owned or self.whole_group)
        return (self.uid if uid in self.old_uids else uid, self.gid if regroup else gid)


@dataclass(frozen=True)
class HostAccounts:
    """What was observed.

    Attributes:
        accounts, groups: the local ones.
        remote_accounts, remote_groups: those that only a directory service knows.
        hashes, expiry: of /etc/shadow, by account.
        processes: what runs.
        journals: renumberings that did not come to their end, by account.
        lingering: accounts whose services run without a login.
        login: uid as which Ansible logged in; None where that cannot be told.
        unanswered: accounts about which the directory service did not answer.
        twins: accounts of the directory service whose names are of local ones, too.
        locked: how accounts were that were to go and are declared again.
        insecure_homes: why no home can be made for an account: others can change the way to it, or root may not there.
        closed_roots: directories with homes in which root gives no file away, and what is mounted there.
        missing_shells: declared shells that cannot be started.
        subuids, subgids: ranges of subordinate ids, as first and count, by account.
        in_namespaces: processes that are in a user namespace, or hold one; looked for where an id could be subordinate.
    """

    accounts: tuple[Account, ...] = ()
    groups: tuple[Group, ...] = ()
    remote_accounts: tuple[Account, ...] = ()
    remote_groups: tuple[Group, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict, repr=False)
    processes: tuple[Process, ...] = ()
    journals: dict[str, Renumbering] = field(default_factory=dict)
    expiry: dict[str, str] = field(default_factory=dict)
    lingering: frozenset[str] = frozenset()
    login: int | None = None
    unanswered: frozenset[str] = frozenset()
    twins: tuple[Account, ...] = ()
    locked: dict[str, StateBeforeLock] = field(default_factory=dict)
    insecure_homes: dict[str, GpusteadError] = field(default_factory=dict)
    closed_roots: dict[str, str] = field(default_factory=dict)
    missing_shells: frozenset[str] = frozenset()
    subuids: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    subgids: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    in_namespaces: frozenset[int] = frozenset()

    def account(self, name: str) -> Account | None:
        return next((account for account in self.accounts if account.name == name), None)

    def group(self, name: str) -> Group | None:
        return next((group for group in self.groups if group.name == name), None)

    def holders(self, uid: int, but: str) -> list[str]:
        known = (*self.accounts, *self.remote_accounts)
        return sorted({account.name for account in known if account.uid == uid and account.name != but})

    def group_holders(self, gid: int, but: str) -> list[str]:
        known = (*self.groups, *self.remote_groups)
        return sorted({group.name for group in known if group.gid == gid and group.name != but})


def parse_passwd(text: str) -> list[Account]:
    """Reads lines of passwd; those of other kinds (comments, NIS) are no accounts.

    An end of line is one byte: the names that people give themselves (chfn) may hold what only Python takes for one.
    """
    rows = (line.split(":") for line in text.split("\n"))
    return [
        Account(row[0], int(row[2]), int(row[3]), row[4], row[5], row[6])
        for row in rows
        if len(row) == 7 and row[0][:1] not in {"", "+", "-", "#"} and row[2].isdigit() and row[3].isdigit()
    ]


def names(text: str) -> dict[int, str]:
    """Who has a uid, by the text of passwd, as it may be shown."""
    return {account.uid: shown(account.name, 40) for account in parse_passwd(text)}


def parse_group(text: str) -> list[Group]:
    """Reads lines of group."""
    rows = (line.split(":") for line in text.split("\n"))
    return [
        Group(row[0], int(row[2]), tuple(name for name in row[3].split(",") if name))
        for row in rows
        if len(row) == 4 and row[0][:1] not in {"", "+", "-", "#"} and row[2].isdigit()
    ]


def parse_ranges(text: str) -> dict[str, tuple[Range, ...]]:
    """Reads lines of subuid or subgid: ranges by account."""
    found: dict[str, tuple[Range, ...]] = {}
    for row in (line.split(":") for line in text.split("\n")):
        if len(row) == 3 and row[1].isdigit() and row[2].isdigit():
            found[row[0]] = (*found.get(row[0], ()), (int(row[1]), int(row[2])))
    return found


def is_within(number: int, ranges: Iterable[Range]) -> bool:
    return any(first <= number < first + count for first, count in ranges)


def processes_of(account: Account, processes: Iterable[Process], subordinate: Sequence[Range] = ()) -> str:
    """What runs in an account's name, or under its subordinate ids, in words; empty where nothing does."""
    found = [
        process
        for process in processes
        if account.uid in process.uids or any(is_within(uid, subordinate) for uid in process.uids)
    ]
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return ", ".join(f"{process.pid} {process.command}" for process in found[:10]) + more


def refuse_busy(host: HostAccounts, account: Account) -> None:
    """A process would go on with the old ids, and make files with them."""
    found = processes_of(account, host.processes, host.subuids.get(account.name, ()))
    if found:
        remedy = f"End them ({how_to_end(account)}), then run again."
        raise GpusteadError(f"account '{account.name}' has running processes ({found})", "none", remedy)


def how_to_end(account: Account) -> str:
    return f"loginctl terminate-user {account.name}; those of a workspace end when it leaves workspace_instances"
