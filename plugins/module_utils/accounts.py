# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Local accounts with declared ids: read the host, plan, and carry the plan out.

A renumbering first gives the files their new owner and then changes the account. Killed anywhere in between, the
next run finds the account with its old ids, has fewer files left to do, and ends the same: no journal is needed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]


@dataclass(frozen=True)
class Wanted:
    """An account as declared. Empty texts leave what is there, or useradd's default."""

    name: str
    uid: int
    gid: int
    group: str
    groups: tuple[str, ...] = ()
    home: str = ""
    shell: str = ""
    comment: str = ""
    system: bool = False
    password_hash: str = ""
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """A line of passwd."""

    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str


@dataclass(frozen=True)
class Group:
    """A line of group."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What the host knows that matters for one declared account; None where there is nothing."""

    account: Account | None  # by its name
    local: bool  # whether that account stands in /etc/passwd
    holder: Account | None  # who has the uid
    group: Group | None  # the primary group, by its name
    gid_holder: Group | None  # who has the gid
    missing: tuple[str, ...]  # supplementary groups that do not exist
    memberships: tuple[str, ...]  # groups that list the account
    password: str  # the hash in shadow
    processes: tuple[str, ...]  # "4711 (bash)" of the account's present uid


@dataclass(frozen=True)
class Reown:
    """Give the files under the roots that belong to the old ids to the new ones; None leaves that id alone."""

    uid: tuple[int, int] | None
    gid: tuple[int, int] | None
    roots: tuple[str, ...]

    def __str__(self) -> str:
        pairs = [f"{kind} {old} -> {new}" for kind, (old, new) in self._pairs()]
        return f"files under {', '.join(self.roots)}: {', '.join(pairs)}"

    def _pairs(self) -> list[tuple[str, tuple[int, int]]]:
        return [(kind, pair) for kind, pair in (("uid", self.uid), ("gid", self.gid)) if pair]


@dataclass(frozen=True)
class Command:
    """A command of the shadow tools; `data` goes to its standard input and is shown nowhere."""

    argv: tuple[str, ...]
    data: str = ""

    def __str__(self) -> str:
        return " ".join(self.argv)


Step = "Reown | Command"


def parse_passwd(line: str) -> Account | None:
    """One line of passwd; None for one that is none (NIS markers, blank lines, damage)."""
    words = line.rstrip("\n").split(":")
    if len(words) != 7 or not words[0] or not words[2].isdigit() or not words[3].isdigit():
        return None
    return Account(words[0], int(words[2]), int(words[3]), words[4], words[5], words[6])


def parse_group(line: str) -> Group | None:
    """One line of group; None for one that is none."""
    words = line.rstrip("\n").split(":")
    if len(words) != 4 or not words[0] or not words[2].isdigit():
        return None
    return Group(words[0], int(words[2]), tuple(name for name in words[3].split(",") if name))


def observe(run: Run, wanted: Wanted, root: str = "/") -> Found:
    """Ask the name services (and with them any directory) and the local files. `root` is for tests."""
    account = _lookup_account(run, wanted.name)
    groups = [group for group in map(parse_group, _getent(run, "group")) if group]
    names = {group.name for group in groups}
    absent = [name for name in (*wanted.groups,) if name not in names and not _getent(run, "group", name)]
    shadow = dict(line.split(":", 2)[:2] for line in _read(root, "etc/shadow") if line.count(":") > 1)
    return Found(
        account=account,
        local=any(line.startswith(f"{wanted.name}:") for line in _read(root, "etc/passwd")),
        holder=_lookup_account(run, str(wanted.uid)),
        group=next(filter(None, map(parse_group, _getent(run, "group", wanted.group))), None),
        gid_holder=next(filter(None, map(parse_group, _getent(run, "group", str(wanted.gid)))), None),
        missing=tuple(absent),
        memberships=tuple(group.name for group in groups if wanted.name in group.members),
        password=shadow.get(wanted.name, ""),
        processes=tuple(processes(account.uid, root)) if account else (),
    )


def _getent(run: Run, *words: str) -> list[str]:
    return run(["getent", *words], "")[1].splitlines()


def _lookup_account(run: Run, key: str) -> Account | None:
    return next(filter(None, map(parse_passwd, _getent(run, "passwd", key))), None)


def _read(root: str, path: str) -> list[str]:
    try:
        return Path(root, path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def processes(uid: int, root: str = "/") -> Iterator[str]:
    """Processes with that real or effective uid, as "4711 (bash)". Source: proc(5), status."""
    for status in sorted(Path(root, "proc").glob("[0-9]*/status")):
        try:
            text = status.read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        ids = re.search(r"^Uid:\s*(\d+)\s+(\d+)", text, re.MULTILINE)
        name = re.search(r"^Name:\s*(.*)$", text, re.MULTILINE)
        if ids and str(uid) in ids.groups():
            yield f"{status.parent.name} ({name.group(1) if name else '?'})"


def plan(wanted: Wanted, found: Found) -> list[Reown | Command]:
    """The steps from what is there to what is declared; none when it is so already.

    Raises:
        GpusteadError: an id belongs to somebody else, a renumbered account is busy, or one of a directory differs.
    """
    account = found.account
    if account and not found.local:
        _check_directory_account(wanted, account)
        return []
    _check_ids_are_free(wanted, found)
    renumbered = account is not None and (account.uid, account.gid) != (wanted.uid, wanted.gid)
    moved_group = found.group is not None and found.group.gid != wanted.gid
    if (renumbered or moved_group) and found.processes:
        raise GpusteadError(
            f"account {wanted.name!r} has running processes: {', '.join(found.processes[:5])}",
            f"none while its ids change to {wanted.uid}:{wanted.gid}",
            "End them, or log the user out, and run again.",
        )
    steps: list[Reown | Command] = []
    if account and (renumbered or moved_group) and wanted.roots:
        old_gid = found.group.gid if moved_group and found.group else account.gid
        steps.append(
            Reown(
                (account.uid, wanted.uid) if account.uid != wanted.uid else None,
                (old_gid, wanted.gid) if old_gid != wanted.gid else None,
                wanted.roots,
            )
        )
    if found.group is None:
        steps.append(Command(("groupadd", "--gid", str(wanted.gid), wanted.group)))
    elif moved_group:
        steps.append(Command(("groupmod", "--gid", str(wanted.gid), wanted.group)))
    steps += [Command(("groupadd", "--system", name)) for name in found.missing if name != wanted.group]
    return steps + (_change(wanted, account, found) if account else [_create(wanted)]) + _password(wanted, found)


def _check_directory_account(wanted: Wanted, account: Account) -> None:
    if (account.uid, account.gid) != (wanted.uid, wanted.gid):
        raise GpusteadError(
            f"account {wanted.name!r} comes from a directory service with ids {account.uid}:{account.gid}",
            f"{wanted.uid}:{wanted.gid}",
            "It is not touched; declare the directory's ids, or change them in the directory.",
        )


def _check_ids_are_free(wanted: Wanted, found: Found) -> None:
    if found.holder and found.holder.name != wanted.name:
        raise GpusteadError(
            f"uid {wanted.uid} for {wanted.name!r} belongs to {found.holder.name!r}",
            "a free uid",
            "Declare another uid, or renumber or remove that account.",
        )
    if found.gid_holder and found.gid_holder.name != wanted.group:
        raise GpusteadError(
            f"gid {wanted.gid} for group {wanted.group!r} belongs to group {found.gid_holder.name!r}",
            "a free gid",
            "Declare another gid, or renumber or remove that group.",
        )


def _create(wanted: Wanted) -> Command:
    argv = ["useradd", "--uid", str(wanted.uid), "--gid", str(wanted.gid)]
    argv += ["--create-home", "--shell", wanted.shell or "/bin/bash"]
    argv += ["--home-dir", wanted.home] if wanted.home else []
    argv += ["--comment", wanted.comment] if wanted.comment else []
    argv += ["--groups", ",".join(wanted.groups)] if wanted.groups else []
    argv += ["--system"] if wanted.system else []
    return Command((*argv, wanted.name))


def _change(wanted: Wanted, account: Account, found: Found) -> list[Reown | Command]:
    argv: list[str] = []
    if account.uid != wanted.uid:
        argv += ["--uid", str(wanted.uid)]
    if account.gid != wanted.gid:
        argv += ["--gid", str(wanted.gid)]
    if wanted.shell and account.shell != wanted.shell:
        argv += ["--shell", wanted.shell]
    if wanted.home and account.home != wanted.home:
        argv += ["--home", wanted.home]
    if wanted.comment and account.comment != wanted.comment:
        argv += ["--comment", wanted.comment]
    new = [name for name in wanted.groups if name not in found.memberships]
    if new:
        argv += ["--append", "--groups", ",".join(new)]
    if not argv:
        return []
    command = ("usermod", *argv, wanted.name)
    return [Command(_without_home(command, account.home) if "--uid" in argv or "--gid" in argv else command)]


def _without_home(command: tuple[str, ...], home: str) -> tuple[str, ...]:
    """usermod chowns the home by itself, into other file systems too: let it see an empty one, in a private view."""
    script = 'if [ -d "$1" ]; then mount -t tmpfs none "$1"; fi && shift && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh", home, *command)


def _password(wanted: Wanted, found: Found) -> list[Reown | Command]:
    if not wanted.password_hash or wanted.password_hash == found.password:
        return []
    return [Command(("chpasswd", "--encrypted"), f"{wanted.name}:{wanted.password_hash}\n")]


def apply(run: Run, steps: Sequence[Reown | Command]) -> None:
    """Carry the steps out in their order."""
    for step in steps:
        if isinstance(step, Reown):
            for root in step.roots:
                reown(step, root)
            continue
        code, out, err = run(list(step.argv), step.data)
        if code:
            raise GpusteadError(str(step), "success", (err or out).strip() or f"It ended with {code}.")


def reown(step: Reown, root: str) -> None:
    """Give the files below `root` their new ids: on its own file system alone, links themselves, setuid bits kept."""
    try:
        device = os.lstat(root).st_dev
    except FileNotFoundError:
        return
    pending = [root]
    while pending:
        path = pending.pop()
        found = os.lstat(path)
        if found.st_dev != device:
            continue
        uid = step.uid[1] if step.uid and found.st_uid == step.uid[0] else -1
        gid = step.gid[1] if step.gid and found.st_gid == step.gid[0] else -1
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid, follow_symlinks=False)
            if found.st_mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(found.st_mode):
                os.chmod(path, stat.S_IMODE(found.st_mode))  # chown clears these bits
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(path) as entries:
                pending += [entry.path for entry in entries]


def owner_of(path: str) -> tuple[int, int]:
    """uid and gid of what a path leads to; raises GpusteadError when it is not there or belongs to root."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise GpusteadError(f"path {path}: {error.strerror}", "a file or directory", "Create or mount it.") from None
    if not found.st_uid:
        raise GpusteadError(f"path {path} belongs to root", "a user's path", "Declare a uid instead.")
    return found.st_uid, found.st_gid


def check_all(wanted: Sequence[Wanted]) -> None:
    """Refuse declarations that contradict each other; raises GpusteadError."""
    for kind in ("name", "uid"):
        seen: dict[object, str] = {}
        for user in wanted:
            value = getattr(user, kind)
            if value in seen:
                raise GpusteadError(
                    f"{kind} {value} is declared for {seen[value]!r} and {user.name!r}",
                    f"each {kind} once",
                    "Correct one of them.",
                )
            seen[value] = user.name
    for user in wanted:
        if not re.fullmatch("[a-z_][a-z0-9_-]{0,31}", user.name):
            raise GpusteadError(f"account name {user.name!r}", "a name such as 'ada'", "Rename it.")
        if user.uid < 1000 and not user.system:
            raise GpusteadError(f"uid {user.uid} of {user.name!r}", "1000 or more", "Set system: true if you mean it.")


def describe(wanted: Wanted, found: Found) -> str:
    """The account as it is, for a diff; without its password."""
    account = found.account
    if not account:
        return ""
    groups = ",".join(sorted(set(found.memberships) & set(wanted.groups)))
    return f"{account.name}: uid={account.uid} gid={account.gid} shell={account.shell} groups={groups}\n"


def goal(wanted: Wanted, found: Found) -> str:
    """The account as it should be, in the same form."""
    shell = wanted.shell or (found.account.shell if found.account else "/bin/bash")
    return f"{wanted.name}: uid={wanted.uid} gid={wanted.gid} shell={shell} groups={','.join(sorted(wanted.groups))}\n"
