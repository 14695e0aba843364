# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes the plans for the accounts of a host true: ids and all else, and the accounts that go.

A renumbering is written down in a journal before it begins: a run that was killed is finished by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import freed_ids
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_authorized_keys import retire_as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import DesiredKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    Account,
    HostAccounts,
    Range,
    Renumbering,
    how_to_end,
    processes_of,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import (
    LINGER,
    is_in_container,
    journal_path,
    left_path,
    read_left,
    read_processes,
    read_threads,
    record_path,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.removal import (
    Removal,
    lock,
    own_group,
    state_before_lock,
    still_running,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.renumber_files import renumber_files
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.share_homes import no_home
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import AccountChange
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run
from ansible_collections.gpustead.cluster.plugins.module_utils.run import must

_REMEDY = "Remove the cause (a directory service or a home that is away, where it did not end), and run again."

# With which useradd ends where it made all but the home directory.
_NO_HOME = 12
# Retires the keys of an account and returns where they lie.
RetireKeys = Callable[[DesiredKeys], "list[str]"]


def apply(
    run: Run,
    changes: Sequence[AccountChange],
    state_dir: Path,
    refused: list[Refusal] | None = None,
    cleared: list[str] | None = None,
    *,
    proc: Path = Path("/proc"),
) -> list[AccountChange]:
    """Makes the plan true. Supplementary groups come last, lest one takes an id that a later account needs.

    Before an id is handed on, what was left under it that would act as whoever has it is made harmless. Who is taken
    out of a group is out of it when nothing that runs in that name is in it either, nor a program of theirs setgid.

    Args:
        refused: takes the accounts for which that failed, and those that were to have their ids; without it the first
            is an error.
        cleared: takes what was made harmless, in words.
        proc: where processes are read.

    Returns:
        The changes that were made, and those that were none.
    """
    done: list[AccountChange] = []
    stuck: list[AccountChange] = []
    told: list[str] = [] if cleared is None else cleared
    clearing = _Clearing(changes, told, state_dir)
    for change in changes:
        try:
            _refuse_taken(change, stuck)
            # What a run that was killed has renumbered by then has the new ids, and is the account's own.
            if not journal_path(state_dir, change.desired.name).exists():
                clearing.before(change)
            _apply_core(run, change, state_dir)
        except (GpusteadError, OSError) as error:
            if refused is None:
                raise
            refused.append(Refusal.of(change.desired.name, plain(error, change.desired.name)))
            stuck.append(change)
        else:
            done.append(change)
    made = []
    for change in done:
        try:
            _remember_left(state_dir, change)
            _apply_extras(run, change)
            told += _leave_groups(state_dir, change, proc)
        except (GpusteadError, OSError) as error:
            if refused is None:
                raise
            refused.append(Refusal.of(change.desired.name, plain(error, change.desired.name)))
        else:
            made.append(change)
    return made


class _Clearing:
    """Looks at the host once for all ids that others had before, and once more for each that is vacated in this run.

    That is a walk over the whole host, so it is made for ids alone that the role has taken from somebody. Subordinate
    ones are handed on by useradd, and to whom an account gets that has one of them.
    """

    def __init__(self, changes: Sequence[AccountChange], cleared: list[str], state_dir: Path) -> None:
        former = [change.before for change in changes if change.before and change.renumbering]
        self.vacated = {account.uid for account in former} | {account.gid for account in former}
        self.had = freed_ids.Ids.together([former_ids(state_dir), *map(taken_back, changes)])
        new = freed_ids.Ids.together(
            ids for ids in map(handed_on, changes) if not self.vacated & {*ids.uids, *ids.gids}
        )
        self.free = new.among(self.had)
        if any(map(hands_ranges_on, changes)):
            self.free = replace(self.free, ranges=self.had.ranges)
        self.cleared, self.looked, self.state_dir = cleared, False, state_dir
        self.failure: GpusteadError | None = None

    def before(self, change: AccountChange) -> None:
        """Raises GpusteadError where it cannot be done."""
        ids = handed_on(change)
        if self.vacated & {*ids.uids, *ids.gids}:
            self.cleared += freed_ids.clear(ids)
            return
        if not ids.among(self.had) and not (self.free.ranges and hands_ranges_on(change)):
            return
        if not self.looked:
            self.looked = True
            try:
                self.cleared += freed_ids.clear(self.free)
                if self.free.ranges:  # they are nobody's until they are handed on
                    _write_former(self.state_dir, replace(former_ids(self.state_dir), ranges=frozenset()))
            except GpusteadError as error:
                self.failure = error
        if self.failure:
            raise self.failure


def handed_on(change: AccountChange) -> freed_ids.Ids:
    """The ids that somebody gets who did not have them: of a group only where it is made or renumbered, too."""
    wanted = change.desired
    if wanted.system:
        return freed_ids.Ids()
    groups = [argv[2] for argv in change.core if argv[0] in {"groupadd", "groupmod"} and argv[1] == "-g"]
    mine = not change.core or (change.before is not None and change.before.uid == wanted.uid)
    return freed_ids.Ids(frozenset([] if mine else [wanted.uid]), frozenset(map(int, groups)))


def taken_back(change: AccountChange) -> freed_ids.Ids:
    """The subordinate ids that are taken from whoever has them."""
    said = [argv[2].split("-") for argv in change.core if argv[1].startswith("--del-sub")]
    return freed_ids.Ids(ranges=frozenset((int(first), int(last) - int(first) + 1) for first, last in said))


def hands_ranges_on(change: AccountChange) -> bool:
    """Whether subordinate ids of others may be somebody's by it: those that useradd gives, or an account's own id."""
    gives = any(argv[0] == "useradd" and "SUB_UID_COUNT=0" not in argv for argv in change.core)
    return (gives and not change.desired.system) or bool(taken_back(change))


def plain(error: GpusteadError | OSError, name: str) -> GpusteadError:
    return error if isinstance(error, GpusteadError) else of_system(error, f"account '{name}'")


def _refuse_taken(change: AccountChange, stuck: Sequence[AccountChange]) -> None:
    """The files of one must not be given ids that another still has."""
    for other in stuck:
        if (
            other.before
            and change.changed
            and not {other.before.uid, other.before.gid}.isdisjoint({change.desired.uid, change.desired.gid})
        ):
            name, holder = change.desired.name, other.desired.name
            what = f"ids {change.desired.uid}:{change.desired.gid} of '{name}' are still those of '{holder}'"
            raise GpusteadError(what, "them to be free", f"See why '{holder}' could not be renumbered.")


def _apply_core(run: Run, change: AccountChange, state_dir: Path) -> None:
    journal = journal_path(state_dir, change.desired.name)
    if change.renumbering and change.before:
        remember_ids(state_dir, change.before)
    if taken_back(change):
        _remember(state_dir, taken_back(change))
    if change.renumbering:
        write_journal(journal, change.renumbering)
        for root in change.renumbering.roots:
            renumber_files(root, change.renumbering)
    for argv in change.core:
        answer = run(argv, "")
        if argv[0] == "useradd" and answer[0] == _NO_HOME:
            # The account alone would look done to the next run.
            must(run, ["userdel", change.desired.name], "", remedy=_REMEDY)
            after = change.after
            raise no_home(after.home, after.name, (after.uid, after.gid), "what is mounted there")
        must(lambda _argv, said=answer: said, argv, remedy=_REMEDY)
    if change.renumbering:
        journal.unlink()
    if change.unlock:
        record_path(state_dir, change.desired.name).unlink(missing_ok=True)


def _apply_extras(run: Run, change: AccountChange) -> None:
    for argv in change.extras:
        must(run, argv, "", remedy=_REMEDY)
    if change.password:
        # On the command line it would be in every process list.
        must(run, ["chpasswd", "-e"], f"{change.desired.name}:{change.desired.password_hash}\n", remedy=_REMEDY)


def _remember_left(state_dir: Path, change: AccountChange) -> None:
    """Write down, before it is done, which groups an account is taken out of."""
    if change.left:
        path = left_path(state_dir, change.desired.name)
        write_whole(path, json.dumps({**read_left(path), **{group.name: group.gid for group in change.left}}) + "\n")


def _leave_groups(state_dir: Path, change: AccountChange, proc: Path) -> list[str]:
    """See that nothing of an account is in the groups that it was taken out of: a process keeps those that it has, and
    a program that is setgid gives them back. Says what was made harmless."""
    path, after = left_path(state_dir, change.desired.name), change.after
    left = {name: gid for name, gid in read_left(path).items() if name not in change.desired.groups}
    done = []
    if left:
        _refuse_members(change, left, proc)
        done = freed_ids.clear(freed_ids.Ids(members=frozenset((after.uid, gid) for gid in left.values())))
        _refuse_members(change, left, proc)  # a program that is setgid could have made another meanwhile
    path.unlink(missing_ok=True)
    return done


def _refuse_members(change: AccountChange, left: Mapping[str, int], proc: Path) -> None:
    threads = read_threads(proc)
    for group, gid in left.items():
        members = [one for one in threads if gid in one.gids and not is_in_container(proc, one.pid)]
        found = processes_of(change.after, members, change.subordinate)
        if found:
            what = f"account '{change.desired.name}' is taken out of group '{group}', and has processes in it ({found})"
            raise GpusteadError(what, "none", f"End them ({how_to_end(change.after)}), then run again.")


def write_journal(path: Path, renumbering: Renumbering) -> None:
    """On disk as a whole before the first file changes."""
    write_whole(path, json.dumps(asdict(renumbering)) + "\n")


def remove(
    run: Run,
    host: HostAccounts,
    gone: Sequence[Account],
    state_dir: Path,
    refused: list[Refusal] | None = None,
    *,
    proc: Path = Path("/proc"),
    retire_keys: RetireKeys = retire_as_account,
) -> list[Removal]:
    """Lock accounts, then remove those of which nothing runs, with their own groups, jobs and crontabs; no other file.

    Args:
        refused: takes the others, with what still runs, and those that cannot be locked or removed; without it the
            first one is an error.
        proc: where processes are read once the accounts are locked.
        retire_keys: takes the keys of one that waits.
    """
    done = []
    for account in gone:
        steps: tuple[tuple[str, ...], ...] = ()
        try:
            steps = _lock(run, host, account, state_dir)
            running = processes_of(account, read_processes(proc), host.subuids.get(account.name, ()))
            if running:
                retired, words = _retire_keys(host, account, retire_keys)
                done.append(Removal(account, steps, retired))
                raise still_running(account, running, words)
            remember_ids(state_dir, account, (*host.subuids.get(account.name, ()), *host.subgids.get(account.name, ())))
            _remove(run, host, account)
            freed_ids.remove_jobs(account.name, account.uid)
            record_path(state_dir, account.name).unlink(missing_ok=True)
            done.append(Removal(account, steps, removed=True))
        except (GpusteadError, OSError) as error:
            if refused is None:
                raise
            said = error if isinstance(error, GpusteadError) else of_system(error, f"account '{account.name}'")
            refused.append(Refusal.of(account.name, said))
    return done


def former_ids(state_dir: Path) -> freed_ids.Ids:
    """The ids of accounts that the role has removed or renumbered on this host."""
    try:
        known = json.loads(_former_path(state_dir).read_text())
    except FileNotFoundError:
        return freed_ids.Ids()
    ranges = frozenset((first, count) for first, count in known.get("ranges", ()))
    return freed_ids.Ids(frozenset(known["uids"]), frozenset(known["gids"]), ranges=ranges)


def remember_ids(state_dir: Path, account: Account, ranges: Sequence[Range] = ()) -> None:
    """Write down, before it is done, that somebody had the ids of an account, with its subordinate ones."""
    _remember(state_dir, freed_ids.Ids(frozenset([account.uid]), frozenset([account.gid]), ranges=frozenset(ranges)))


def _remember(state_dir: Path, ids: freed_ids.Ids) -> None:
    before = former_ids(state_dir)
    both = freed_ids.Ids.together([before, ids])
    if both != before:
        _write_former(state_dir, both)


def _write_former(state_dir: Path, ids: freed_ids.Ids) -> None:
    known = {part: sorted(getattr(ids, part)) for part in ("uids", "gids", "ranges")}
    write_whole(_former_path(state_dir), json.dumps(known) + "\n")


def _former_path(state_dir: Path) -> Path:
    """Beside the journals and the records, whose names are an account's and another ending."""
    return state_dir / "former.ids"


def _lock(run: Run, host: HostAccounts, account: Account, state_dir: Path) -> tuple[tuple[str, ...], ...]:
    path = record_path(state_dir, account.name)
    if not path.exists():
        write_whole(path, json.dumps(asdict(state_before_lock(host, account))) + "\n")
    steps = tuple(lock(host, account))
    for argv in steps:
        if argv[0] == "loginctl" and run(argv, "")[0] == 0:
            continue
        # Where logind does not answer, it finds at its next start that the file is gone.
        must(run, ["rm", "-f", f"{LINGER}/{account.name}"] if argv[0] == "loginctl" else argv, "", remedy=_REMEDY)
    return steps


def _remove(run: Run, host: HostAccounts, account: Account) -> None:
    must(run, ["userdel", account.name], "", remedy=_REMEDY)
    # Where login.defs has USERGROUPS_ENAB, userdel has done that; one of a directory service is not ours to remove.
    if own_group(host, account) and run(["getent", "-s", "files", "group", account.name], "")[0] == 0:
        must(run, ["groupdel", account.name], "", good=(0, 6), remedy=_REMEDY)


def _retire_keys(host: HostAccounts, account: Account, retire_keys: RetireKeys) -> tuple[tuple[str, ...], str]:
    """Where its keys are now, and that in words. Should it be unlocked by hand, they would let somebody in."""
    groups = tuple(group.gid for group in host.groups if account.name in group.members)
    keys = DesiredKeys(account.name, account.uid, account.gid, account.home, groups=groups)
    try:
        moved = tuple(retire_keys(keys))
    except GpusteadError as error:
        return (), f"nobody can log in as it; its keys stay where they are ({error.what})"
    return moved, "nobody can log in as it" + (f", its keys are in {' and '.join(moved)}" if moved else "")


def write_whole(path: Path, text: str) -> None:
    """On disk as a whole, or not at all; for root alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with open(fresh, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
