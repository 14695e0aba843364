# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts with exactly the declared ids: observe the host, plan all changes, then apply them.

Nothing is changed before the plan for all accounts stands. A refusal leaves the host as it was, or, where all others
are to be settled, that account. A renumbering is written down in a journal before it begins: a run that was killed is
finished by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import way_to
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    FIRST_USER_ID,
    LINGER,
    Account,
    Group,
    Host,
    Silent,
    busy,
    getent,
    login_uid,
    must,
    parse_group,
    parse_passwd,
    read_journal,
    read_processes,
    write_whole,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.ownership import Move, rechown
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.removal import (
    how_to_end,
    read_record,
    record_path,
    restore,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run

# usermod -u walks through the home directory by itself, and across file systems; not through one that is not there.
NOWHERE = "/nonexistent/gpustead"
NO_SHELL = ("nologin", "false")


@dataclass(frozen=True)
class Wish:
    """An account as declared; None is "as it is". `hold` says why one that is there must keep its ids."""

    name: str
    uid: int
    gid: int
    group: str
    groups: tuple[str, ...] = ()
    home: str | None = None
    shell: str | None = None
    comment: str | None = None
    system: bool = False
    password_hash: str | None = field(default=None, repr=False)
    roots: tuple[str, ...] = ("/home",)
    hold: str = ""


@dataclass(frozen=True)
class Change:
    """All that is to be done for one account, in this order: core, then (after the others' core) extras."""

    wish: Wish
    before: Account | None
    after: Account
    move: Move | None = None
    core: tuple[tuple[str, ...], ...] = ()
    extras: tuple[tuple[str, ...], ...] = ()
    password: bool = False
    unlock: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.move or self.core or self.extras or self.password or self.unlock)

    def texts(self) -> tuple[str, str]:
        """Before and after, for a diff; without secrets."""
        before = f"{self.before}\n" if self.before else ""
        after = [str(self.after)]
        if self.move:
            old = ",".join(map(str, self.move.old_uids)) or self.move.uid
            groups = ",".join(map(str, self.move.old_gids)) or self.move.gid
            after.append(f"files of {old}:{groups} below {' '.join(self.move.roots)}: {self.move.uid}:{self.move.gid}")
        after += [" ".join(argv) for argv in self.extras]
        after += ["password: set"] if self.password else []
        return before, "\n".join(after) + "\n"


# Observe


def observe(
    run: Run, wishes: Sequence[Wish], state_dir: Path, root: Path = Path("/"), absent: Sequence[str] = ()
) -> Host:
    """Reads the local files, asks for what else is known, and looks for journals."""
    accounts = parse_passwd((root / "etc/passwd").read_text(errors="replace"))
    groups = parse_group((root / "etc/group").read_text(errors="replace"))
    shadow = [line.split(":") for line in (root / "etc/shadow").read_text(errors="replace").split("\n")]
    journals = {wish.name: state_dir / f"{wish.name}.json" for wish in wishes}
    linger = root / LINGER[1:]
    passwd_text, group_text, silent = ask(run, wishes, absent)
    local, local_groups = {account.name for account in accounts}, {group.name for group in groups}
    return Host(
        accounts=tuple(accounts),
        groups=tuple(groups),
        remote_accounts=tuple(one for one in parse_passwd(passwd_text) if one.name not in local),
        remote_groups=tuple(one for one in parse_group(group_text) if one.name not in local_groups),
        hashes={row[0]: row[1] for row in shadow if len(row) > 1},
        processes=tuple(read_processes(root / "proc")),
        journals={name: read_journal(path) for name, path in journals.items() if path.exists()},
        expiry={row[0]: row[7] for row in shadow if len(row) > 7},
        lingering=frozenset(path.name for path in linger.iterdir()) if linger.is_dir() else frozenset(),
        login=login_uid(root / "proc", os.getpid()),
        silent=silent,
        locked={
            name: before
            for name, path in ((wish.name, record_path(state_dir, wish.name)) for wish in wishes)
            if (before := read_record(path))
        },
        loose=loose_homes(wish for wish in wishes if wish.name not in local and not wish.system),
    )


def loose_homes(wishes: Iterable[Wish]) -> dict[str, GpusteadError]:
    """The homes that useradd would make, as root, in a directory that others can change."""
    found = {}
    for wish in wishes:
        try:
            way_to(wish.home or f"/home/{wish.name}", wish.name)
        except GpusteadError as error:
            found[wish.name] = error
    return found


def ask(run: Run, wishes: Sequence[Wish], absent: Sequence[str]) -> tuple[str, str, frozenset[str]]:
    """What all sources know: lines of passwd, lines of group, and the accounts about which one of them is silent.

    One question is for all. Only where there is no answer is each account asked about by itself.
    """
    try:
        return (*(_ask(run, wishes, absent)), frozenset())
    except Silent:
        passwd_text, group_text = _ask(run, [], [])
        silent: set[str] = set()
        for wish in wishes:
            try:
                one = _ask(run, [wish], []) if len(silent) < 3 else None
            except Silent:
                one = None
            if one is None:
                silent.add(wish.name)
            else:
                passwd_text, group_text = passwd_text + one[0], group_text + one[1]
        return passwd_text, group_text, frozenset(silent)


def _ask(run: Run, wishes: Sequence[Wish], absent: Sequence[str]) -> tuple[str, str]:
    keys = [*absent, *(key for wish in wishes for key in (wish.name, str(wish.uid)))]
    group_keys = [key for wish in wishes for key in (wish.group, str(wish.gid), *wish.groups)]
    return getent(run, "passwd", keys), getent(run, "group", group_keys)


# Plan


def plan(host: Host, wishes: Sequence[Wish], refused: list[Refusal] | None = None) -> list[Change]:
    """Plans all accounts, each on the host as the former ones will leave it.

    `refused` takes those that cannot be as declared; without it the first one is an error.
    """
    changes = []
    for wish in wishes:
        try:
            change = plan_one(host, wish)
        except GpusteadError as error:
            if refused is None:
                raise
            refused.append(Refusal.of(wish.name, error))
            continue
        changes.append(change)
        if change.changed:
            others = (account for account in host.accounts if account.name != wish.name)
            groups = (group for group in host.groups if group.name != wish.group)
            group = replace(host.group(wish.group) or Group(wish.group, wish.gid), gid=wish.gid)
            host = replace(host, accounts=(*others, change.after), groups=(*groups, group))
    return changes


def plan_removals(
    host: Host,
    names: Sequence[str],
    wishes: Sequence[Wish],
    system: Sequence[str] = (),
    refused: list[Refusal] | None = None,
) -> list[Account]:
    """The local accounts that go. One of a directory service is not ours to remove.

    `refused` takes those that must stay; one of which something runs is locked and removed later. Without it both are
    errors.
    """
    both = sorted(set(names) & {wish.name for wish in wishes})
    if both:
        raise GpusteadError(f"account '{both[0]}' is in users and in absent", "it in one", "Take it out of the other.")
    gone = []
    for account in filter(None, map(host.account, dict.fromkeys(names))):
        try:
            refuse_removal(host, account, system)
            if refused is None:
                refuse_busy(host, account)
        except GpusteadError as error:
            if refused is None:
                raise
            refused.append(Refusal.of(account.name, error))
        else:
            gone.append(account)
    return gone


def refuse_removal(host: Host, account: Account, system: Sequence[str]) -> None:
    """Some accounts are never ours to remove."""
    if account.uid == 0:
        remedy = "Root is no account of the cluster: take it out of absent."
        raise GpusteadError(f"account '{account.name}' with id 0 in absent", "ids above 0", remedy)
    if account.uid == host.login:
        what = f"account '{account.name}', as which Ansible logs in, is not declared any more"
        remedy = "Declare it again, or let Ansible log in as another (ansible_user)."
        raise GpusteadError(what, "another account than that", remedy)
    if account.uid < FIRST_USER_ID and account.name not in system:
        # It may have been there before it was declared, as Debian's own.
        what = f"account '{account.name}' in absent has the system id {account.uid}"
        remedy = f"Declare it again, or see that nothing needs it and remove it by hand (userdel {account.name})."
        raise GpusteadError(what, f"{FIRST_USER_ID} or above, or its name in absent_system", remedy)


def refuse_foreign_ids(host: Host, wish: Wish) -> None:
    """The ids must be free, or the account's already."""
    if wish.uid == 0 or wish.gid == 0:
        raise GpusteadError(f"account '{wish.name}' with id 0", "ids above 0", "Root is no account of the cluster.")
    if wish.uid < FIRST_USER_ID and not wish.system:
        remedy = f"Choose uid {FIRST_USER_ID} or above for '{wish.name}', or say system: true."
        raise GpusteadError(f"uid {wish.uid} of '{wish.name}' is a system id", f"{FIRST_USER_ID} or above", remedy)
    holders = host.holders(wish.uid, wish.name)
    if holders:
        remedy = f"Choose another uid for '{wish.name}', or renumber '{holders[0]}' first."
        raise GpusteadError(f"uid {wish.uid} belongs to '{', '.join(holders)}'", f"'{wish.name}' or nobody", remedy)
    holders = host.group_holders(wish.gid, wish.group)
    if holders:
        remedy = f"Choose another gid for '{wish.name}', or set its group to '{holders[0]}'."
        raise GpusteadError(f"gid {wish.gid} belongs to '{', '.join(holders)}'", f"'{wish.group}' or nobody", remedy)


def refuse_busy(host: Host, account: Account) -> None:
    """A process would go on with the old ids, and make files with them."""
    found = busy(host.processes, account)
    if found:
        remedy = f"End them ({how_to_end(account)}), then run again."
        raise GpusteadError(f"account '{account.name}' has running processes ({found})", "none", remedy)


def refuse_held(host: Host, before: Account, wish: Wish) -> None:
    """Files elsewhere would be another's; or it is the administrator's, who must get in with half of it done."""
    if wish.hold:
        what = f"account '{wish.name}' has {before.uid}:{before.gid}, and {wish.hold}"
        raise GpusteadError(what, f"{wish.uid}:{wish.gid}, there and on the host", "Put that right, then run again.")
    if before.uid == host.login:
        what = f"account '{wish.name}', as which Ansible logs in, has {before.uid}:{before.gid}"
        remedy = "Declare these ids, take it out of cluster_users, or let Ansible log in as another (ansible_user)."
        raise GpusteadError(what, f"{wish.uid}:{wish.gid}", remedy)


def refuse_lockout(host: Host, before: Account, after: Account) -> None:
    """Keys lie in the home, and nobody gets in without a shell."""
    if before.uid != host.login:
        return
    whose = f"of '{after.name}', as which Ansible logs in"
    if after.home != before.home:
        what = f"home {after.home} {whose}, is another than {before.home}, where its keys are"
        raise GpusteadError(what, "the home that it has", "Leave home out, or let Ansible log in as another.")
    if after.shell != before.shell and (
        os.path.basename(after.shell) in NO_SHELL or not os.access(after.shell, os.X_OK)
    ):
        remedy = "Install it, declare another, or let Ansible log in as another."
        raise GpusteadError(f"shell {after.shell} {whose}, lets nobody in", "one that is there", remedy)


def plan_one(host: Host, wish: Wish) -> Change:
    """Plans one account, or says why not."""
    if wish.name in host.silent:
        what = f"the directory service does not answer for account '{wish.name}' (uid {wish.uid}, gid {wish.gid})"
        raise GpusteadError(what, "an answer to getent", "See nsswitch.conf and what it names (SSSD, LDAP).")
    remote = next((account for account in host.remote_accounts if account.name == wish.name), None)
    before = host.account(wish.name)
    if remote and not before:
        if (remote.uid, remote.gid) == (wish.uid, wish.gid):
            return Change(wish, remote, remote)
        raise GpusteadError(
            f"account '{wish.name}' of the directory service has {remote.uid}:{remote.gid}",
            f"{wish.uid}:{wish.gid}",
            "Declare these ids, or change them in the directory: it is not ours to change.",
        )
    refuse_foreign_ids(host, wish)
    group_steps, group_move = plan_group(host, wish)
    move = plan_move(host, wish, before, group_move)
    if move and before and (before.uid, before.gid) != (wish.uid, wish.gid):
        refuse_held(host, before, wish)
        refuse_busy(host, before)
    locked = host.locked.get(wish.name)
    if before:
        home = wish.home or (move.home if move and before.home == NOWHERE else before.home)
        after = Account(
            wish.name,
            wish.uid,
            wish.gid,
            before.comment if wish.comment is None else wish.comment,
            home,
            wish.shell or before.shell,
        )
        refuse_lockout(host, before, after)
        steps = [*group_steps, *modify(before, after)]
        if locked:
            after = replace(after, shell=wish.shell or locked.shell)
            steps += restore(host, locked, wish.name, wish.shell)
    else:
        after = Account(
            wish.name,
            wish.uid,
            wish.gid,
            wish.comment or "",
            wish.home or f"/home/{wish.name}",
            wish.shell or ("/usr/sbin/nologin" if wish.system else "/bin/bash"),
        )
        if wish.name in host.loose:
            raise host.loose[wish.name]
        steps = [*group_steps, create(after, wish.system)]
    password = wish.password_hash is not None and host.hashes.get(wish.name) != wish.password_hash
    extras = tuple(plan_extras(host, wish))
    return Change(wish, before, after, move, tuple(steps), extras, password, locked is not None)


def plan_group(host: Host, wish: Wish) -> tuple[list[tuple[str, ...]], int | None]:
    """Steps for the primary group, and its former gid when it is renumbered."""
    remote = next((group for group in host.remote_groups if group.name == wish.group), None)
    local = host.group(wish.group)
    if local and local.gid == wish.gid:
        return [], None
    if local:
        if local.gid < FIRST_USER_ID and not (wish.system and local.gid):
            remedy = f"Set group of '{wish.name}' to a name that is free."
            raise GpusteadError(f"group '{wish.group}' is a system group, gid {local.gid}", f"{wish.gid}", remedy)
        return [("groupmod", "-g", str(wish.gid), wish.group)], local.gid
    if remote and remote.gid != wish.gid:
        remedy = "Declare that gid, or another group: the directory is not ours to change."
        what = f"group '{wish.group}' of the directory service has gid {remote.gid}"
        raise GpusteadError(what, f"{wish.gid}", remedy)
    return ([] if remote else [("groupadd", "-g", str(wish.gid), wish.group)]), None


def plan_move(host: Host, wish: Wish, before: Account | None, group_gid: int | None) -> Move | None:
    """Which files change, with those of a run that did not come to its end."""
    begun = host.journals.get(wish.name)
    old_uids = {before.uid} if before else set()
    old_gids = {before.gid} if before else set()
    roots = list(wish.roots)
    if begun:
        old_uids |= {*begun.old_uids, begun.uid}
        old_gids |= {*begun.old_gids, begun.gid}
        roots = [*roots, *(root for root in begun.roots if root not in roots)]
    if group_gid is not None:
        old_gids.add(group_gid)
    old_uids.discard(wish.uid)
    old_gids.discard(wish.gid)
    if not begun and not old_uids and not old_gids:
        return None
    whole = group_gid is not None or bool(begun and begun.whole_group)
    if before and before.uid != wish.uid and before.uid < FIRST_USER_ID and not (wish.system and before.uid):
        remedy = "Choose another name, or say system: true."
        raise GpusteadError(f"'{wish.name}' is a system account, uid {before.uid}", f"uid {wish.uid}", remedy)
    for uid in sorted(old_uids):
        holders = host.holders(uid, wish.name)
        if holders:
            what = f"former uid {uid} of '{wish.name}' belongs to '{', '.join(holders)}' too"
            raise GpusteadError(what, f"'{wish.name}' alone", "Whose files these are must be told apart by hand.")
    for gid in sorted(old_gids) if whole else []:
        holders = host.group_holders(gid, wish.group)
        if holders and gid != (before.gid if before else None):
            what = f"former gid {gid} of group '{wish.group}' belongs to '{', '.join(holders)}' too"
            raise GpusteadError(what, f"'{wish.group}' alone", "Whose files these are must be told apart by hand.")
    home = begun.home if begun else (before.home if before else f"/home/{wish.name}")
    return Move(
        wish.name, tuple(sorted(old_uids)), tuple(sorted(old_gids)), wish.uid, wish.gid, whole, home, tuple(roots)
    )


def modify(before: Account, after: Account) -> Iterator[tuple[str, ...]]:
    """The ids by themselves, without a home directory for usermod to walk through; then all else."""
    ids = (before.uid, before.gid) != (after.uid, after.gid)
    if ids:
        yield ("usermod", "-d", NOWHERE, "-u", str(after.uid), "-g", str(after.gid), after.name)
    options = {
        "-d": after.home if ids or after.home != before.home else None,
        "-s": after.shell if after.shell != before.shell else None,
        "-c": after.comment if after.comment != before.comment else None,
    }
    words = [word for option, value in options.items() if value is not None for word in (option, value)]
    if words:
        yield ("usermod", *words, after.name)


def create(account: Account, system: bool) -> tuple[str, ...]:
    """A new account; a system account gets no home directory."""
    kind = ["-r", "-M"] if system else ["-m"]
    ids = ["-u", str(account.uid), "-g", str(account.gid)]
    return ("useradd", *kind, *ids, "-d", account.home, "-s", account.shell, "-c", account.comment, account.name)


def plan_extras(host: Host, wish: Wish) -> Iterator[tuple[str, ...]]:
    """Supplementary groups, added to those that the account has."""
    known = {group.name: group for group in (*host.remote_groups, *host.groups)}
    missing = [name for name in wish.groups if name not in known or wish.name not in known[name].members]
    for name in missing:
        if name not in known:
            yield ("groupadd", "-f", "-r", name)  # -f: another account of this run may have made it
        elif not host.group(name):
            remedy = f"Add '{wish.name}' there: the directory is not ours to change."
            raise GpusteadError(f"group '{name}' is of the directory service", f"'{wish.name}' in it", remedy)
    if missing:
        yield ("usermod", "-a", "-G", ",".join(missing), wish.name)


# Apply


def apply(run: Run, changes: Sequence[Change], state_dir: Path, refused: list[Refusal] | None = None) -> list[Change]:
    """Makes the plan true. Supplementary groups come last, lest one takes an id that a later account needs.

    `refused` takes the accounts for which that failed, and those that were to have their ids; without it the first is
    an error.

    Returns:
        The changes that were made, and those that were none.
    """
    done: list[Change] = []
    stuck: list[Change] = []
    for change in changes:
        try:
            _refuse_taken(change, stuck)
            _apply_core(run, change, state_dir)
        except (GpusteadError, OSError) as error:
            if refused is None:
                raise
            refused.append(Refusal.of(change.wish.name, plain(error, change.wish.name)))
            stuck.append(change)
        else:
            done.append(change)
    made = []
    for change in done:
        try:
            _apply_extras(run, change)
        except GpusteadError as error:
            if refused is None:
                raise
            refused.append(Refusal.of(change.wish.name, error))
        else:
            made.append(change)
    return made


def plain(error: GpusteadError | OSError, name: str) -> GpusteadError:
    return error if isinstance(error, GpusteadError) else of_system(error, f"account '{name}'")


def _refuse_taken(change: Change, stuck: Sequence[Change]) -> None:
    """The files of one must not be given ids that another still has."""
    for other in stuck:
        if (
            other.before
            and change.changed
            and not {other.before.uid, other.before.gid}.isdisjoint({change.wish.uid, change.wish.gid})
        ):
            name, holder = change.wish.name, other.wish.name
            what = f"ids {change.wish.uid}:{change.wish.gid} of '{name}' are still those of '{holder}'"
            raise GpusteadError(what, "them to be free", f"See why '{holder}' could not be renumbered.")


def _apply_core(run: Run, change: Change, state_dir: Path) -> None:
    journal = state_dir / f"{change.wish.name}.json"
    if change.move:
        write_journal(journal, change.move)
        for root in change.move.roots:
            rechown(root, change.move)
    for argv in change.core:
        must(run, argv)
    if change.move:
        journal.unlink()
    if change.unlock:
        record_path(state_dir, change.wish.name).unlink(missing_ok=True)


def _apply_extras(run: Run, change: Change) -> None:
    for argv in change.extras:
        must(run, argv)
    if change.password:
        # On the command line it would be in every process list.
        must(run, ["chpasswd", "-e"], f"{change.wish.name}:{change.wish.password_hash}\n")


def write_journal(path: Path, move: Move) -> None:
    """On disk as a whole before the first file changes."""
    write_whole(path, json.dumps(asdict(move)) + "\n")
