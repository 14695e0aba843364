# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files on a network share, each written as its owner: on a squashed export root is nobody.

Everything is done in a child with the owner's ids and through descriptors, so that whoever exchanges an entry meanwhile
has us do no more than they could do themselves.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# More than any file of ours has; a longer one is another content.
SIZE = 1 << 20
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
_ROOT = Identity(0, 0)
# How many times the time of one entry all of them have.
_PATIENCE = 5


@dataclass(frozen=True)
class Entry:
    """One directory or file.

    Attributes:
        path: relative to the root of the share.
        state: directory, file, existing or existing_directory (put right and never made), link (made where nothing
            is, else left as it is) or absent.
        owner: uid that owns it and that does the writing.
        group: gid.
        mode: permission bits.
        content: what a file holds; None leaves the content of one that is there.
        generate: number of random bytes of a token that is written once; 0 for none.
        secret: whether the content must stay out of diffs.
        target: where a link leads; it need not be there.
        once: whether the content is only for a file that is not there yet.
        through: gid with which it is made, where that may write in the directory above; it gets its own afterwards.
        former: uids from which it is taken, should it belong to one of them.
    """

    path: str
    state: str
    owner: int
    group: int
    mode: int
    content: str | None = None
    generate: int = 0
    secret: bool = False
    target: str = ""
    once: bool = False
    through: int | None = None
    former: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return {"existing": "file", "existing_directory": "directory"}.get(self.state, self.state)

    @property
    def made(self) -> bool:
        return not self.state.startswith("existing")

    @property
    def first(self) -> bool:
        """Whether what is there keeps its content."""
        return self.once or self.generate > 0


@dataclass(frozen=True)
class Change:
    """What is there and what should be, as text for people; equal when there is nothing to do."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def visible(self) -> Change:
        """The same for a terminal: what lay there is somebody else's text."""
        return Change(
            *("".join(f"{shown(line)}\n" for line in text.splitlines()) for text in (self.before, self.after))
        )


@dataclass(frozen=True)
class Found:
    """What is there: `kind` is empty for nothing."""

    kind: str = ""
    owner: int = -1
    group: int = -1
    mode: int = 0
    content: str | None = None
    names: int = 1

    def text(self, entry: Entry) -> str:
        """In the form of a diff."""
        if not self.kind:
            return ""
        if entry.state in ("absent", "link"):
            return f"{entry.path}: {self.kind}\n"
        head = f"{entry.path}: {self.kind} {self.owner}:{self.group} {self.mode:04o}\n"
        if self.content is None:
            return head
        if entry.secret:
            return head + ("(secret)\n" if self.content == entry.content else "(another secret)\n")
        return head + self.content


def parse(raw: Mapping[str, Any]) -> Entry:
    """Make an entry of a module's argument; raises GpusteadError for one that cannot be meant."""
    path, state, mode = str(raw["path"]), raw["state"], str(raw.get("mode") or "")
    as_account.steps(path)
    target = str(raw.get("target") or "")
    if (state == "link") != bool(target):
        raise GpusteadError(f"{path}, a {state}", "a target for a link, and for nothing else", "Correct the entry.")
    if state not in ("absent", "link") and not re.fullmatch("[0-7]{3,4}", mode):
        raise GpusteadError(f"mode {mode!r} of {path}", "an octal mode such as '0644'", "Correct the entry.")
    content, generate = raw.get("content"), int(raw.get("generate") or 0)
    if state != "file" and (content is not None or generate):
        raise GpusteadError(f"{path}, a {state}", "content for a file that is made", "Leave content and generate out.")
    if state == "file" and (content is None) == (generate == 0):
        raise GpusteadError(f"file {path}", "either content or generate", "Give exactly one of them.")
    if generate and generate < 16:
        raise GpusteadError(f"generate {generate} for {path}", "at least 16 random bytes", "Ask for more.")
    through = raw.get("through")
    return Entry(
        path,
        state,
        int(raw["owner"]),
        int(raw["group"]),
        int(mode, 8) if mode else 0,
        content,
        generate,
        bool(raw.get("secret")) or generate > 0,
        target,
        bool(raw.get("once")),
        None if through is None else int(through),
        tuple(int(uid) for uid in raw.get("former") or ()),
    )


def describe(entry: Entry, content: str | None) -> str:
    """An entry as it should be, in the form of a diff."""
    if entry.state == "link":
        return f"{entry.path}: link to {entry.target}\n"
    head = f"{entry.path}: {entry.kind} {entry.owner}:{entry.group} {entry.mode:04o}\n"
    if entry.kind != "file" or content is None:
        return head
    return head + ("(secret)\n" if entry.secret else content)


# Within a child, as whoever it is.


@contextlib.contextmanager
def _held(directory: int, name: str) -> Iterator[int]:
    """A descriptor of what lies there, whatever it is; nothing is opened. Raises FileNotFoundError."""
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield held
    finally:
        os.close(held)


def _through(held: int) -> str:
    """The path by which the kernel reaches what such a descriptor holds, and nothing else."""
    return f"/proc/self/fd/{held}"


def _look(held: int, entry: Entry) -> Found:
    status = os.fstat(held)
    found = Found(
        _KINDS.get(stat.S_IFMT(status.st_mode), "special file"),
        status.st_uid,
        status.st_gid,
        stat.S_IMODE(status.st_mode),
        names=status.st_nlink,
    )
    if entry.content is None or entry.first or found.kind != "file" or entry.kind != "file":
        return found
    try:
        file = os.open(_through(held), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        if found.owner == os.geteuid() or found.owner not in entry.former:
            raise
        content = "(not readable)\n"
    else:
        try:
            content = as_account.contents(file, entry.path, SIZE).decode("utf-8", "replace")
        except GpusteadError as error:
            content = f"({error.what})\n"
        finally:
            os.close(file)
    return replace(found, content=content)


def observe(root: str, entry: Entry) -> Found:
    """What is there. Raises GpusteadError for what must not be touched."""
    path = os.path.join(root, entry.path)
    try:
        with as_account.parent(root, entry.path) as place, _held(*place) as held:
            found, above = _look(held, entry), os.fstat(place[0])
    except FileNotFoundError:
        return Found()
    if entry.state in ("absent", "link"):
        return found
    if found.kind != entry.kind and not _replaceable(entry, found):
        raise GpusteadError(f"{path} is a {found.kind}", f"a {entry.kind}", aside(path, above.st_uid, above.st_gid))
    if found.owner not in (entry.owner, *entry.former):
        ids = f"{entry.owner}:{entry.group}"
        raise GpusteadError(
            f"{path} belongs to uid {found.owner}",
            f"uid {entry.owner}",
            f"{aside(path, above.st_uid, above.st_gid)}; or give it to its owner on the NAS server: chown {ids}",
        )
    # Who has a second name for a file would lose that, too; what is written anew takes nothing from them.
    if found.owner != entry.owner and entry.state == "existing" and found.names > _names_of_a_file(root):
        remedy = "Remove the other names, or this one."
        raise GpusteadError(f"{path} has {found.names} names (hard links)", "one", remedy)
    return found


def aside(path: str, uid: int, gid: int) -> str:
    """The remedy that moves something away as the owner of the directory above: in a sticky one nobody else may."""
    who = "" if uid == 0 else f"setpriv --reuid {uid} --regid {gid} --clear-groups "
    return f"Move it out of the way, as root: {who}mv {path} {path}.aside"


def _replaceable(entry: Entry, found: Found) -> bool:
    """Whether it is what a former owner put in the place of a file that is written as a whole; it holds nothing."""
    whole = entry.state == "file" and not entry.first
    return whole and found.owner in entry.former and found.kind in ("link", "special file")


def _names_of_a_file(root: str) -> int:
    """A brick of GlusterFS has every file twice."""
    try:
        return 1 + (os.stat(os.path.join(root, ".glusterfs"), follow_symlinks=False).st_uid == 0)
    except OSError:
        return 1


def plan(entry: Entry, found: Found) -> Change:
    """What is to be done about one entry."""
    before = found.text(entry)
    if entry.state == "absent" or (not entry.made and not found.kind):
        return Change(before, "")
    if found.kind and entry.state == "link":
        return Change(before, before)
    if found.kind and entry.first:
        return Change(before, describe(entry, None))
    return Change(before, describe(entry, "" if entry.generate else entry.content))


def make(root: str, entry: Entry, found: Found) -> None:
    """Bring about what is there and what it holds; as root for its owner."""
    if entry.state == "link":
        _make_directories(root, entry.path)
    with as_account.parent(root, entry.path) as (directory, name):
        if entry.state == "absent":
            os.rmdir(name, dir_fd=directory) if found.kind == "directory" else os.unlink(name, dir_fd=directory)
        elif entry.state == "link":
            with contextlib.suppress(FileExistsError):  # another node was faster
                os.symlink(entry.target, name, dir_fd=directory)
        elif entry.state == "directory" and not found.kind:
            with contextlib.suppress(FileExistsError):  # another node was faster
                os.mkdir(name, 0o700, dir_fd=directory)
        elif entry.state == "file" and _differs(entry, found):
            _write(directory, name, entry)


def _differs(entry: Entry, found: Found) -> bool:
    """Whether the file is to be written, rather than given other permissions."""
    if found.kind and entry.first:
        return False
    return (found.content, found.owner) != (entry.content, entry.owner)


def _make_directories(root: str, path: str) -> None:
    """The directories above a link, for the account alone."""
    parts = as_account.steps(path)
    for count in range(1, len(parts)):
        with (
            as_account.parent(root, "/".join(parts[:count])) as (directory, name),
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(name, 0o755, dir_fd=directory)


def _write(directory: int, name: str, entry: Entry) -> None:
    content = entry.content if entry.content is not None else secrets.token_urlsafe(entry.generate)
    owner = (entry.owner, entry.group) if os.geteuid() == 0 else None
    mode = entry.mode if entry.through is None else entry.mode & 0o700
    with contextlib.suppress(FileExistsError):  # another node was faster: its token holds
        as_account.put(directory, name, content.encode(), mode, owner=owner, exclusive=entry.first)


def finish(root: str, entry: Entry) -> None:
    """Owner, group and permissions of what is there now, and is what it should be."""
    path = os.path.join(root, entry.path)
    with as_account.parent(root, entry.path) as place, _held(*place) as held:
        found = _look(held, entry)
        ours = (entry.owner, os.geteuid(), *entry.former)
        if found.kind != entry.kind or found.owner not in ours:
            remedy = "Look who works there, and run again."
            raise GpusteadError(f"{path} was exchanged meanwhile", f"a {entry.kind} of uid {entry.owner}", remedy)
        if (found.owner, found.group) != (entry.owner, entry.group):
            os.chown(_through(held), entry.owner if found.owner != entry.owner else -1, entry.group)
        if stat.S_IMODE(os.fstat(held).st_mode) != entry.mode:
            os.chmod(_through(held), entry.mode)


def settle(root: str, entry: Entry, check: bool, steps: Sequence[str] = ("make", "finish")) -> list[str]:
    """Observe, plan and apply one entry, as whoever we are now; returns before and after."""
    found = observe(root, entry)
    change = plan(entry, found)
    if change.changed and not check:
        if "make" in steps:
            make(root, entry, found)
        if "finish" in steps and entry.state not in ("absent", "link"):
            finish(root, entry)
    return [change.before, change.after]


def settle_as_root(root: str, entry: Entry, check: bool, trusted: Collection[int] = ()) -> list[str]:
    """Settle one entry where root alone may write: in a directory of others a link could be put in its place meanwhile.

    Args:
        trusted: ids, beside root's, that nobody logs in as.

    Raises:
        PermissionError: somebody else may change a directory on the way.
    """
    parts = as_account.steps(entry.path)
    # From above: once nobody can change a directory, nobody can exchange what is in it.
    for count in range(1, len(parts) + 1):
        with as_account.parent(root, "/".join(parts[:count])) as (directory, _name):
            found = os.fstat(directory)
        mine = found.st_uid in (0, *trusted) and not found.st_mode & stat.S_IWOTH
        if not mine or (found.st_mode & stat.S_IWGRP and found.st_gid not in trusted):
            place = os.path.join(root, *parts[: count - 1])
            raise PermissionError(f"{place} can be changed by others than root")
    return settle(root, entry, check)


# From outside.


def settle_all(
    root: str,
    entries: Iterable[Entry],
    check: bool,
    timeout: float = 60,
    *,
    refused: list[Refusal] | None = None,
    trusted: Collection[int] = (),
) -> list[Change]:
    """Settle entries in their order, each as its owner, or as root where only root may write.

    Args:
        root: where the share is mounted; a path that only root can change.
        check: change nothing.
        timeout: seconds for one entry; all of them have five times as long, and each owner has an equal part of what is
            left of that, so that no number of accounts uses up what others need.
        refused: takes the entries that could not be settled, and what lies below them; without it the first one is
            raised.
        trusted: ids of accounts that nobody logs in as: root also works in their directories.

    Raises:
        GpusteadError: an entry was refused, and there is no list for it.
    """
    entries = list(entries)
    deadline = time.monotonic() + _PATIENCE * timeout
    slow: set[int] = set()
    changes = []
    for number, entry in enumerate(entries):
        began = time.monotonic()
        waiting = {later.owner for later in entries[number:]} - slow
        left = min(timeout, (deadline - began) / max(1, len(waiting)))
        try:
            _refuse_below(root, entry, refused or ())
            if entry.owner in slow or left <= 0:
                what = f"{os.path.join(root, entry.path)} was not looked at: what came before it took too long"
                raise GpusteadError(what, "answers in time", "See what hangs there, and run again.")
            changes.append(_settle_as_owner(root, entry, check, left, trusted))
        except GpusteadError as error:
            if time.monotonic() - began >= left:
                slow.add(entry.owner)
            if refused is None:
                raise
            refused.append(Refusal.of(entry.path, error))
            changes.append(Change("", ""))
    return changes


def _refuse_below(root: str, entry: Entry, refused: Iterable[Refusal]) -> None:
    above = next((one for one in refused if entry.path.startswith(f"{one.name}/")), None)
    if above:
        what = f"{os.path.join(root, entry.path)} was left alone, because {above.what}"
        raise GpusteadError(what, above.expected, above.remedy)


def _settle_as_owner(root: str, entry: Entry, check: bool, timeout: float, trusted: Collection[int]) -> Change:
    path = os.path.join(root, entry.path)

    def do(work: Callable[[], list[str]], who: Identity) -> Change:
        return Change(*as_account.run(work, who, timeout=timeout, size=16 * SIZE, memory=128 * SIZE, place=path))

    owner = Identity(entry.owner, entry.group)
    try:
        if entry.through is None:
            return do(partial(settle, root, entry, check), owner)
        # Each step with the one group that lets it: an NFS server may know no other of the account's.
        change = do(partial(settle, root, entry, check, ("make",)), Identity(entry.owner, entry.through))
        if change.changed and not check:
            do(partial(settle, root, entry, check, ("finish",)), owner)
        return change
    except PermissionError as denied:
        try:
            return do(partial(settle_as_root, root, entry, check, trusted), _ROOT)
        except PermissionError as as_root:
            raise GpusteadError(
                f"{path} cannot be written by uid {entry.owner} ({denied.strerror}), nor by root"
                f" ({as_root.strerror or as_root})",
                "a share on which its owner may write",
                _commands(entry),
            ) from None


def _commands(entry: Entry) -> str:
    """What does it on the NAS server."""
    ids = f"{entry.owner}:{entry.group}"
    if entry.kind == "directory":
        mode = f"{entry.mode:04o}"
        what = f"mkdir -p {entry.path} && chown {ids} {entry.path} && chmod {mode} {entry.path}"
        return f"On the NAS server, as root in the exported directory: {what}"
    return f"On the NAS server, give the directory above it to that uid, or the file: chown {ids} {entry.path}"


def judge_root(root: str, owner: Identity, timeout: float = 60) -> list[Refusal]:
    """What is wrong with the root of the share: who may write in it decides what lies on it.

    Args:
        owner: the account, which nobody logs in as, whose it may be; else root's.

    Raises:
        GpusteadError: it cannot be looked at.
    """

    def look() -> list[int]:
        status = os.stat(root)
        return [status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)]

    try:
        found = as_account.run(look, owner, timeout=timeout, place=root)
    except PermissionError as error:
        what = f"{root} cannot be looked at by uid {owner.uid} ({error.strerror})"
        raise GpusteadError(
            what, "that all may pass", "On the NAS server: chmod 1775 the exported directory."
        ) from error
    place = f"the root of the share, {root},"
    return [replace(one, what=f"{place} {one.what}") for one in root_problems(owner, *found)]


def root_problems(owner: Identity, uid: int, gid: int, mode: int) -> list[Refusal]:
    """The same of its ids and permission bits."""
    remedy = f"On the NAS server, in the exported directory: chown {owner} . && chmod 1775 ."
    if uid not in (0, owner.uid):
        what = f"belongs to uid {uid}, who can rename all that lies in it"
        return [Refusal(".", what, f"uid {owner.uid} or 0", remedy)]
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and gid != owner.gid):
        what = f"has mode {mode:04o} and group {gid}: accounts may write in it"
        return [Refusal(".", what, f"mode 1775 and group {owner.gid}, or 0755", remedy)]
    return []
