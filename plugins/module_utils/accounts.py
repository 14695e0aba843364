# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts with exactly the declared ids: observe the host, plan all changes, then apply them.

Nothing is changed before the plan for all accounts stands, so a refusal leaves the host as it was. A renumbering is
written down in a journal before it begins: a run that was killed is finished by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# argv, stdin -> exit status, stdout, stderr
Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]

# usermod -u walks through the home directory by itself, and across file systems; not through one that is not there.
NOWHERE = "/nonexistent/gpustead"
FIRST_USER_ID = 1000


@dataclass(frozen=True)
class Wish:
    """An account as declared; None is "as it is"."""

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
class Move:
    """A renumbering: which files change to which ids. This is what the journal holds."""

    name: str
    old_uids: tuple[int, ...]
    old_gids: tuple[int, ...]
    uid: int
    gid: int
    whole_group: bool
    home: str
    roots: tuple[str, ...]

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        """The ids that a file with these ids gets."""
        owned = uid in self.old_uids or uid == self.uid
        regroup = gid in self.old_gids and (owned or self.whole_group)
        return (self.uid if uid in self.old_uids else uid, self.gid if regroup else gid)


@dataclass(frozen=True)
class Host:
    """What was observed: local accounts and groups, those that only a directory service knows, and the rest."""

    accounts: tuple[Account, ...] = ()
    groups: tuple[Group, ...] = ()
    remote_accounts: tuple[Account, ...] = ()
    remote_groups: tuple[Group, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict, repr=False)
    processes: tuple[Process, ...] = ()
    journals: dict[str, Move] = field(default_factory=dict)

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

    @property
    def changed(self) -> bool:
        return bool(self.move or self.core or self.extras or self.password)

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


def parse_passwd(text: str) -> list[Account]:
    """Reads lines of passwd; those of other kinds (comments, NIS) are no accounts."""
    rows = (line.split(":") for line in text.splitlines())
    return [
        Account(row[0], int(row[2]), int(row[3]), row[4], row[5], row[6])
        for row in rows
        if len(row) == 7 and row[0][:1] not in {"", "+", "-", "#"} and row[2].isdigit() and row[3].isdigit()
    ]


def parse_group(text: str) -> list[Group]:
    """Reads lines of group."""
    rows = (line.split(":") for line in text.splitlines())
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
            status = dict(line.split(":", 1) for line in path.read_text(errors="replace").splitlines() if ":" in line)
        except OSError:
            continue  # it has ended
        uids = tuple(sorted({int(uid) for uid in status.get("Uid", "").split()}))
        found.append(Process(int(path.parent.name), status.get("Name", "").strip(), uids))
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


def getent(run: Run, database: str, keys: Iterable[str]) -> str:
    """What all sources of the host know of these names and numbers."""
    wanted = sorted(set(keys))
    code, out, err = run(["getent", database, *wanted], "") if wanted else (0, "", "")
    if code not in {0, 2}:  # 2: some are not there
        raise GpusteadError(f"getent {database} exited with {code} ({err.strip()})", "an answer", "See nsswitch.conf.")
    return out


def observe(
    run: Run, wishes: Sequence[Wish], state_dir: Path, root: Path = Path("/"), absent: Sequence[str] = ()
) -> Host:
    """Reads the local files, asks for what else is known, and looks for journals."""
    accounts = parse_passwd((root / "etc/passwd").read_text(errors="replace"))
    groups = parse_group((root / "etc/group").read_text(errors="replace"))
    keys = [*absent, *(key for wish in wishes for key in (wish.name, str(wish.uid)))]
    group_keys = [key for wish in wishes for key in (wish.group, str(wish.gid), *wish.groups)]
    local = {account.name for account in accounts}
    local_groups = {group.name for group in groups}
    shadow = [line.split(":") for line in (root / "etc/shadow").read_text(errors="replace").splitlines()]
    journals = {wish.name: state_dir / f"{wish.name}.json" for wish in wishes}
    return Host(
        accounts=tuple(accounts),
        groups=tuple(groups),
        remote_accounts=tuple(one for one in parse_passwd(getent(run, "passwd", keys)) if one.name not in local),
        remote_groups=tuple(
            one for one in parse_group(getent(run, "group", group_keys)) if one.name not in local_groups
        ),
        hashes={row[0]: row[1] for row in shadow if len(row) > 1},
        processes=tuple(read_processes(root / "proc")),
        journals={name: read_journal(path) for name, path in journals.items() if path.exists()},
    )


# Plan


def plan(host: Host, wishes: Sequence[Wish]) -> list[Change]:
    """Plans all accounts, each on the host as the former ones will leave it."""
    changes = []
    for wish in wishes:
        change = plan_one(host, wish)
        changes.append(change)
        if change.changed:
            others = (account for account in host.accounts if account.name != wish.name)
            groups = (group for group in host.groups if group.name != wish.group)
            group = replace(host.group(wish.group) or Group(wish.group, wish.gid), gid=wish.gid)
            host = replace(host, accounts=(*others, change.after), groups=(*groups, group))
    return changes


def plan_removals(
    host: Host, names: Sequence[str], wishes: Sequence[Wish], system: Sequence[str] = ()
) -> list[Account]:
    """The local accounts that go. One of a directory service is not ours to remove."""
    both = sorted(set(names) & {wish.name for wish in wishes})
    if both:
        raise GpusteadError(f"account '{both[0]}' is in users and in absent", "it in one", "Take it out of the other.")
    found = [account for account in map(host.account, dict.fromkeys(names)) if account]
    for account in found:
        if account.uid == 0:
            remedy = "Root is no account of the cluster: take it out of absent."
            raise GpusteadError(f"account '{account.name}' with id 0 in absent", "ids above 0", remedy)
        if account.uid < FIRST_USER_ID and account.name not in system:
            # It may have been there before it was declared, as Debian's own.
            what = f"account '{account.name}' in absent has the system id {account.uid}"
            remedy = f"Declare it again, or see that nothing needs it and remove it by hand (userdel {account.name})."
            raise GpusteadError(what, f"{FIRST_USER_ID} or above, or its name in absent_system", remedy)
        refuse_busy(host, account)
    return found


def own_group(host: Host, account: Account) -> Group | None:
    """The local group that is this account's alone: its name, its primary group, nobody else in it."""
    group = host.group(account.name)
    others = [one.name for one in (*host.accounts, *host.remote_accounts) if one.gid == account.gid and one != account]
    alone = group and group.gid == account.gid and not others and not set(group.members) - {account.name}
    return group if alone else None


def remove(run: Run, host: Host, gone: Sequence[Account]) -> None:
    """Removes accounts and their own groups; never a file."""
    for account in gone:
        must(run, ["userdel", account.name])
        if own_group(host, account):
            # Where login.defs has USERGROUPS_ENAB, userdel has done that: 6 says that there is none.
            must(run, ["groupdel", account.name], fine=(0, 6))


def farewell(account: Account) -> tuple[str, str]:
    """Before and after, for a diff."""
    return f"{account}\n", f"files of {account.uid}:{account.gid} stay, {account.home} too\n"


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
    busy = [process for process in host.processes if account.uid in process.uids]
    if busy:
        names = ", ".join(f"{process.pid} {process.command}" for process in busy[:10])
        more = f" and {len(busy) - 10} more" if len(busy) > 10 else ""
        how = f"loginctl terminate-user {account.name}; those of a workspace end when it leaves workspace_instances"
        remedy = f"End them ({how}), then run again."
        raise GpusteadError(f"account '{account.name}' has running processes ({names}{more})", "none", remedy)


def plan_one(host: Host, wish: Wish) -> Change:
    """Plans one account, or says why not."""
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
        refuse_busy(host, before)
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
        steps = [*group_steps, *modify(before, after)]
    else:
        after = Account(
            wish.name,
            wish.uid,
            wish.gid,
            wish.comment or "",
            wish.home or f"/home/{wish.name}",
            wish.shell or ("/usr/sbin/nologin" if wish.system else "/bin/bash"),
        )
        steps = [*group_steps, create(after, wish.system)]
    password = wish.password_hash is not None and host.hashes.get(wish.name) != wish.password_hash
    return Change(wish, before, after, move, tuple(steps), tuple(plan_extras(host, wish)), password)


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


def must(run: Run, argv: Sequence[str], data: str = "", fine: Sequence[int] = (0,)) -> None:
    code, out, err = run(argv, data)
    if code not in fine:
        said = " ".join((err or out).split())
        raise GpusteadError(f"{' '.join(argv)} exited with {code} ({said})", "0", "Remove the cause and run again.")


def apply(run: Run, changes: Sequence[Change], state_dir: Path) -> None:
    """Makes the plan true. Supplementary groups come last, lest one takes an id that a later account needs."""
    for change in changes:
        journal = state_dir / f"{change.wish.name}.json"
        if change.move:
            write_journal(journal, change.move)
            for root in change.move.roots:
                rechown(root, change.move)
        for argv in change.core:
            must(run, argv)
        if change.move:
            journal.unlink()
    for change in changes:
        for argv in change.extras:
            must(run, argv)
        if change.password:
            # On the command line it would be in every process list.
            must(run, ["chpasswd", "-e"], f"{change.wish.name}:{change.wish.password_hash}\n")


def write_journal(path: Path, move: Move) -> None:
    """On disk as a whole before the first file changes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with open(fresh, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(json.dumps(asdict(move)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def rechown(root: str, move: Move) -> None:
    """Changes the files below a root, on its file system alone, following no symbolic link."""
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise GpusteadError(f"root {root}: {error.strerror}", "a directory", "Correct roots.") from error
    try:
        info = os.fstat(top)
        ids = move.ids(info.st_uid, info.st_gid)
        if ids != (info.st_uid, info.st_gid):
            os.fchown(top, *ids)
        walk(top, info.st_dev, move)
    finally:
        os.close(top)


def walk(folder: int, device: int, move: Move) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed by somebody else meanwhile
                settle(folder, entry.name, device, move)


def settle(folder: int, name: str, device: int, move: Move) -> None:
    """One entry of an open directory, and what is below it. The descriptor keeps it the same entry throughout."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if info.st_dev != device:
        return
    ids = move.ids(info.st_uid, info.st_gid)
    if stat.S_ISDIR(info.st_mode):
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            if os.fstat(inner).st_dev == device:
                walk(inner, device, move)
                give(inner, info, ids)
        finally:
            os.close(inner)
    elif ids == (info.st_uid, info.st_gid):
        return
    elif stat.S_ISREG(info.st_mode):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            give(file, os.fstat(file), ids)
        finally:
            os.close(file)
    else:
        os.chown(name, *ids, dir_fd=folder, follow_symlinks=False)


def give(file: int, info: os.stat_result, ids: tuple[int, int]) -> None:
    """Linux takes setuid bits and capabilities from a file that changes its owner: they are put back."""
    if ids == (info.st_uid, info.st_gid):
        return
    capability: Any = None
    with contextlib.suppress(OSError):  # most have none
        capability = os.getxattr(file, "security.capability")
    os.fchown(file, *ids)
    if stat.S_IMODE(info.st_mode) & (stat.S_ISUID | stat.S_ISGID):
        os.fchmod(file, stat.S_IMODE(info.st_mode))
    if capability is not None:
        os.setxattr(file, "security.capability", capability)
