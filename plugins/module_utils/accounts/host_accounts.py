# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The accounts of a host as they are: its files, what else it knows, and what runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.ownership import Move
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# One file for each account whose services run without a login.
LINGER = "/var/lib/systemd/linger"

# Below it are the accounts of the system.
FIRST_USER_ID = 1000

SSHD = ("sshd", "sshd-session")


class Silent(GpusteadError):
    """A directory service does not answer."""


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
    """A running process and the ids in whose name it runs."""

    pid: int
    command: str
    uids: tuple[int, ...]


@dataclass(frozen=True)
class Before:
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
class Host:
    """What was observed.

    Attributes:
        accounts, groups: the local ones.
        remote_accounts, remote_groups: those that only a directory service knows.
        hashes, expiry: of /etc/shadow, by account.
        processes: what runs.
        journals: renumberings that did not come to their end, by account.
        lingering: accounts whose services run without a login.
        login: uid as which Ansible logged in; None where that cannot be told.
        silent: accounts about which the directory service did not answer.
        locked: how accounts were that were to go and are declared again.
        loose: why no home can be made for an account: others can change the way to it.
    """

    accounts: tuple[Account, ...] = ()
    groups: tuple[Group, ...] = ()
    remote_accounts: tuple[Account, ...] = ()
    remote_groups: tuple[Group, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict, repr=False)
    processes: tuple[Process, ...] = ()
    journals: dict[str, Move] = field(default_factory=dict)
    expiry: dict[str, str] = field(default_factory=dict)
    lingering: frozenset[str] = frozenset()
    login: int | None = None
    silent: frozenset[str] = frozenset()
    locked: dict[str, Before] = field(default_factory=dict)
    loose: dict[str, GpusteadError] = field(default_factory=dict)

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


def read_processes(proc: Path) -> list[Process]:
    """Reads /proc. A directory there may belong to root while its process does not: the status file tells."""
    found = []
    for path in sorted(proc.glob("[0-9]*/status")):
        try:
            lines = path.read_text(errors="replace").split("\n")
        except OSError:
            continue  # it has ended
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        uids = tuple(sorted({int(uid) for uid in status.get("Uid", "").split()}))
        found.append(Process(int(path.parent.name), shown(status.get("Name", "").strip(), 40), uids))
    return found


def read_journal(path: Path) -> Move:
    """Reads what a run that was killed had begun."""
    try:
        raw = json.loads(path.read_text())
        lists = {name: tuple(raw[name]) for name in ("old_uids", "old_gids", "roots")}
        return Move(**{**raw, **lists})
    except (ValueError, TypeError, KeyError) as error:
        raise GpusteadError(
            f"{path} cannot be read ({error})",
            "the journal of a renumbering",
            "Finish that renumbering by hand, then remove the file.",
        ) from error


def login_uid(proc: Path, pid: int) -> int | None:
    """As whom the session in which a process runs was opened over SSH; None where it was not.

    That is who owns the sshd nearest above it: sudo and su start below that one.
    """
    for _generation in range(100):
        try:
            lines = (proc / str(pid) / "status").read_text(errors="replace").split("\n")
        except OSError:
            return None
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if status.get("Name", "").strip() in SSHD:
            return int(status["Uid"].split()[0])
        pid = int(status.get("PPid", "0"))
        if pid <= 1:
            return None
    return None


def busy(processes: Iterable[Process], account: Account) -> str:
    """What runs in an account's name, in words; empty where nothing does."""
    found = [process for process in processes if account.uid in process.uids]
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return ", ".join(f"{process.pid} {process.command}" for process in found[:10]) + more


def getent(run: Run, database: str, keys: Iterable[str]) -> str:
    """What all sources of the host know of these names and numbers."""
    wanted = sorted(set(keys))
    code, out, err = run(["getent", database, *wanted], "") if wanted else (0, "", "")
    if code == TIMED_OUT:
        what = f"the directory service does not answer getent {database} {' '.join(wanted)[:200]}"
        raise Silent(what, "an answer", "See nsswitch.conf and what it names (SSSD, LDAP).")
    if code not in {0, 2}:  # 2: some are not there
        raise GpusteadError(f"getent {database} exited with {code} ({err.strip()})", "an answer", "See nsswitch.conf.")
    return out


def must(run: Run, argv: Sequence[str], data: str = "", fine: Sequence[int] = (0,)) -> None:
    """Run a command; raises GpusteadError where it fails, with what it said."""
    code, out, err = run(argv, data)
    if code == TIMED_OUT:
        what = f"{' '.join(argv)} did not end in time"
        raise GpusteadError(what, "it to end", "See what it waits for: a directory service, a home that is away.")
    if code not in fine:
        said = shown(" ".join((err or out).split()))
        raise GpusteadError(f"{' '.join(argv)} exited with {code} ({said})", "0", "Remove the cause and run again.")


def write_whole(path: Path, text: str) -> None:
    """On disk as a whole, or not at all; for root alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with open(fresh, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
