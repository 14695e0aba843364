# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Observes the accounts of a host: its files, what its directory services know, what runs. Nothing is changed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import directory_services
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_authorized_keys import refuse_insecure_way
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    FIRST_SUBORDINATE_ID,
    Account,
    HostAccounts,
    Process,
    Renumbering,
    StateBeforeLock,
    parse_group,
    parse_passwd,
    parse_ranges,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.share_homes import (
    closed_homes,
    closed_roots,
    no_home,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import DesiredAccount
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import processes
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# One file for each account whose services run without a login.
LINGER = "/var/lib/systemd/linger"

_FOUND = (0, 2)  # what getent answers: all of them, not all of them
_KILLED = (TIMED_OUT, 137)  # by SIGTERM, and by SIGKILL where that was not enough

SSHD = ("sshd", "sshd-session")


class NoAnswer(GpusteadError):
    """A directory service does not answer."""


def observe(
    run: Run, declared: Sequence[DesiredAccount], state_dir: Path, root: Path = Path("/"), absent: Sequence[str] = ()
) -> HostAccounts:
    """Reads the local files, asks for what else is known, and looks for journals."""
    accounts = parse_passwd((root / "etc/passwd").read_text(errors="replace"))
    groups = parse_group((root / "etc/group").read_text(errors="replace"))
    shadow = [line.split(":") for line in (root / "etc/shadow").read_text(errors="replace").split("\n")]
    journals = {one.name: journal_path(state_dir, one.name) for one in declared}
    linger = root / LINGER[1:]
    passwd_text, group_text, unanswered = ask(run, declared, absent)
    subuids, subgids = (root / "etc/subuid", root / "etc/subgid")
    local, local_groups = {account.name for account in accounts}, {group.name for group in groups}
    services = directory_services.services(root)
    remote = tuple(one for one in parse_passwd(passwd_text) if one.name not in local)
    remote_groups = tuple(one for one in parse_group(group_text) if one.name not in local_groups)
    named, all_groups = {one.name for one in remote}, {one.name for one in (*groups, *remote_groups)}
    unknown = {one.name for one in declared if one.name not in named and not _is_made(one, accounts, all_groups)}
    if unknown and any(directory_services.is_away(service, run, root) for service in services):
        unanswered |= unknown
    return HostAccounts(
        accounts=tuple(accounts),
        groups=tuple(groups),
        remote_accounts=remote,
        remote_groups=remote_groups,
        hashes={row[0]: row[1] for row in shadow if len(row) > 1},
        processes=tuple(read_processes(root / "proc")),
        journals={name: read_journal(path) for name, path in journals.items() if path.exists()},
        expiry={row[0]: row[7] for row in shadow if len(row) > 7},
        lingering=frozenset(path.name for path in linger.iterdir()) if linger.is_dir() else frozenset(),
        login=login_uid(root / "proc", os.getpid()),
        unanswered=unanswered,
        twins=tuple(find_twins(run, services, [one.name for one in declared if one.name in local])),
        locked={
            name: before
            for name, path in ((one.name, record_path(state_dir, one.name)) for one in declared)
            if (before := read_record(path))
        },
        insecure_homes=find_insecure_homes(one for one in declared if one.name not in local and not one.system),
        subuids=parse_ranges(subuids.read_text(errors="replace")) if subuids.exists() else {},
        subgids=parse_ranges(subgids.read_text(errors="replace")) if subgids.exists() else {},
        closed_roots=closed_roots(
            sorted({root for one in declared if _is_to_move(one, accounts) for root in one.roots})
        ),
        in_namespaces=find_namespaces(root / "proc") if any(map(_may_be_subordinate, declared)) else frozenset(),
        missing_shells=frozenset(one.shell for one in declared if one.shell and not os.access(one.shell, os.X_OK)),
    )


def find_twins(run: Run, services: Iterable[str], names: Sequence[str]) -> Iterator[Account]:
    """Who of these a directory service has as well: the host's own files hide them. One that hangs has nobody."""
    for service in services if names else ():
        code, out, _err = run(directory_services.asking(service, "passwd", names), "")
        yield from parse_passwd(out) if code in _FOUND else ()


def _is_made(desired: DesiredAccount, accounts: Iterable[Account], groups: Iterable[str]) -> bool:
    """Whether it is there with its ids, and its groups are: else a directory may have what is to be made."""
    ids = (desired.name, desired.uid, desired.gid)
    return any((one.name, one.uid, one.gid) == ids for one in accounts) and {desired.group, *desired.groups} <= {
        *groups
    }


def _may_be_subordinate(desired: DesiredAccount) -> bool:
    return max(desired.uid, desired.gid) >= FIRST_SUBORDINATE_ID


def _is_to_move(desired: DesiredAccount, accounts: Iterable[Account]) -> bool:
    ids = (desired.uid, desired.gid)
    return any(one.name == desired.name and (one.uid, one.gid) != ids for one in accounts)


def find_insecure_homes(declared: Iterable[DesiredAccount]) -> dict[str, GpusteadError]:
    """The homes that useradd would make, as root, in a directory that others can change, or where root may not."""
    found, homes = {}, {}
    for desired in declared:
        home = desired.home or f"/home/{desired.name}"
        try:
            refuse_insecure_way(home, desired.name)
        except GpusteadError as error:
            found[desired.name] = error
        else:
            homes[home] = desired
    for home, there in closed_homes([*homes]).items():
        one = homes[home]
        found[one.name] = no_home(home, one.name, (one.uid, one.gid), there)
    return found


def ask(run: Run, declared: Sequence[DesiredAccount], absent: Sequence[str]) -> tuple[str, str, frozenset[str]]:
    """What all sources know: lines of passwd, lines of group, and the accounts about which one of them is silent.

    One question is for all. Only where there is no answer is each account asked about by itself.
    """
    try:
        return (*(_ask(run, declared, absent)), frozenset())
    except NoAnswer:
        passwd_text, group_text = _ask(run, [], [])
        unanswered: set[str] = set()
        for desired in declared:
            try:
                one = _ask(run, [desired], []) if len(unanswered) < 3 else None
            except NoAnswer:
                one = None
            if one is None:
                unanswered.add(desired.name)
            else:
                passwd_text, group_text = passwd_text + one[0], group_text + one[1]
        return passwd_text, group_text, frozenset(unanswered)


def _ask(run: Run, declared: Sequence[DesiredAccount], absent: Sequence[str]) -> tuple[str, str]:
    keys = [*absent, *(key for desired in declared for key in (desired.name, str(desired.uid)))]
    group_keys = [key for desired in declared for key in (desired.group, str(desired.gid), *desired.groups)]
    return getent(run, "passwd", keys), getent(run, "group", group_keys)


def read_processes(proc: Path) -> list[Process]:
    """Reads /proc. A directory there may belong to root while its process does not: the status file tells."""
    return list(_read(proc, "[0-9]*/status"))


def read_threads(proc: Path) -> list[Process]:
    """The same with all threads, which can have groups of their own; those of a process that are alike once."""
    return list(dict.fromkeys(_read(proc, "[0-9]*/task/[0-9]*/status")))


def find_namespaces(proc: Path, seconds: float = 20) -> frozenset[int]:
    """The processes that are in another user namespace than we are, or hold one open.

    Raises GpusteadError where there are too many open files to look through.
    """
    patience, ours, found = processes.Patience(seconds), os.readlink(proc / "self/ns/user"), set[int]()
    try:
        for pid in processes.numbers(proc):
            with contextlib.suppress(OSError):  # it has ended
                links = processes.files(pid, patience, proc)
                if os.readlink(proc / str(pid) / "ns/user") != ours or any(map(_is_namespace, links)):
                    found.add(pid)
    except processes.OutOfTime as error:
        raise GpusteadError(str(error), "fewer, to see who has subordinate ids", "End that, then run again.") from None
    return frozenset(found)


def _is_namespace(link: str) -> bool:
    try:
        return os.readlink(link).startswith("user:[")
    except OSError:  # it was closed
        return False


def is_in_container(proc: Path, pid: int) -> bool:
    """Whether root has given a process mounts of its own: an account can do that only with a user namespace. Groups of
    a container are those of its image, whose numbers the host has for others. One that has ended is in none."""
    try:
        mounts, users = (
            [os.readlink(proc / process / "ns" / kind) for process in (str(pid), "self")] for kind in ("mnt", "user")
        )
        return mounts[0] != mounts[1] and users[0] == users[1]
    except OSError:
        return False


def _read(proc: Path, pattern: str) -> Iterator[Process]:
    for path in sorted(proc.glob(pattern)):
        try:
            lines = path.read_text(errors="replace").split("\n")
        except OSError:
            continue  # it has ended
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        uids = tuple(sorted({int(uid) for uid in status.get("Uid", "").split()}))
        gids = tuple(sorted({int(gid) for line in ("Gid", "Groups") for gid in status.get(line, "").split()}))
        number = int(path.relative_to(proc).parts[0])
        yield Process(number, shown(status.get("Name", "").strip(), 40), uids, gids)


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


def getent(run: Run, database: str, keys: Iterable[str]) -> str:
    """What all sources of the host know of these names and numbers."""
    wanted = sorted(set(keys))
    code, out, err = run(["getent", database, *wanted], "") if wanted else (0, "", "")
    if code in _KILLED:
        what = f"the directory service does not answer getent {database} {' '.join(wanted)[:200]}"
        raise NoAnswer(what, "an answer", "See nsswitch.conf and what it names (SSSD, LDAP).")
    if code not in _FOUND:
        raise GpusteadError(f"getent {database} exited with {code} ({err.strip()})", "an answer", "See nsswitch.conf.")
    return out


# What runs before this one have written down, each account in files of its own


def journal_path(state_dir: Path, name: str) -> Path:
    """The journal of a renumbering."""
    return state_dir / f"{name}.json"


def read_journal(path: Path) -> Renumbering:
    """Reads what a run that was killed had begun."""
    try:
        raw = json.loads(path.read_text())
        lists = {name: tuple(raw[name]) for name in ("old_uids", "old_gids", "roots")}
        return Renumbering(**{**raw, **lists})
    except (ValueError, TypeError, KeyError) as error:
        raise GpusteadError(
            f"{path} cannot be read ({error})",
            "the journal of a renumbering",
            "Finish that renumbering by hand, then remove the file.",
        ) from error


def record_path(state_dir: Path, name: str) -> Path:
    """Beside the journals of renumberings, which are <name>.json."""
    return state_dir / f"{name}.locked"


def left_path(state_dir: Path, name: str) -> Path:
    """The groups that an account was taken out of, while something may still be in them."""
    return state_dir / f"{name}.left"


def read_left(path: Path) -> dict[str, int]:
    """Their gids, by name."""
    try:
        return {str(name): int(gid) for name, gid in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        remedy = "End what runs in the account's name, then remove the file."
        raise GpusteadError(f"{path} cannot be read ({error})", "groups that an account has left", remedy) from error


def read_record(path: Path) -> StateBeforeLock | None:
    """How an account was before it was locked; None where it was not."""
    try:
        raw = json.loads(path.read_text())
        return StateBeforeLock(**{**raw, "groups": tuple(raw["groups"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        remedy = "Unlock that account by hand (usermod), then remove the file."
        raise GpusteadError(f"{path} cannot be read ({error})", "how an account was", remedy) from error
