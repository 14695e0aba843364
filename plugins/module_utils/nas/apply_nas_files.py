# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes directories and files on a network share, each as its owner: on a squashed export root is nobody.

Everything is done in a child with the owner's ids and through descriptors, so that whoever exchanges an entry meanwhile
has us do no more than they could do themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Callable, TypeVar

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import (
    EntryChange,
    Observed,
    ShareEntry,
    default_acl,
    how_to_make_on_server,
    how_to_move_away,
    may_be_replaced,
    must_be_written,
    plan,
    root_problems,
)

# More than any file of ours has, images.json the longest; a longer one is another content.
SIZE = 8 << 20
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
_ROOT = Identity(0, 0)
_T = TypeVar("_T")
_DEFAULT_ACL = "system.posix_acl_default"
# How many times the time of one entry all of them have.
_PATIENCE = 5
_MOUNTING = 90.0  # seconds; systemd ends it before, at x-systemd.mount-timeout


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


def _look(held: int, entry: ShareEntry) -> Observed:
    status = os.fstat(held)
    found = Observed(
        _KINDS.get(stat.S_IFMT(status.st_mode), "special file"),
        status.st_uid,
        status.st_gid,
        stat.S_IMODE(status.st_mode),
        names=status.st_nlink,
        inherits=_inherits(held, entry) if entry.inherit else None,
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


def _inherits(held: int, entry: ShareEntry) -> bool | None:
    try:
        return os.getxattr(_through(held), _DEFAULT_ACL) == default_acl(entry.mode)
    except OSError as error:
        return False if error.errno == errno.ENODATA else None


def _have_inherited(held: int, entry: ShareEntry) -> None:
    try:
        os.setxattr(_through(held), _DEFAULT_ACL, default_acl(entry.mode))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def observe(root: str, entry: ShareEntry) -> Observed:
    """What is there. Raises GpusteadError for what must not be touched."""
    path = os.path.join(root, entry.path)
    try:
        with as_account.parent(root, entry.path) as place, _held(*place) as held:
            found, above = _look(held, entry), os.fstat(place[0])
    except FileNotFoundError:
        return Observed()
    if entry.state in ("absent", "link"):
        return found
    move_away = how_to_move_away(path, above.st_uid, above.st_gid)
    if found.kind != entry.kind and not may_be_replaced(entry, found):
        raise GpusteadError(f"{path} is a {found.kind}", f"a {entry.kind}", move_away)
    if found.owner not in (entry.owner, *entry.former):
        remedy = f"{move_away}; or give it to its owner on the NAS server: chown {entry.owner}:{entry.group}"
        raise GpusteadError(f"{path} belongs to uid {found.owner}", f"uid {entry.owner}", remedy)
    # Who has a second name for a file would lose that, too; what is written anew takes nothing from them.
    if found.owner != entry.owner and entry.state == "existing" and found.names > _names_of_a_file(root):
        remedy = "Remove the other names, or this one."
        raise GpusteadError(f"{path} has {found.names} names (hard links)", "one", remedy)
    return found


def _names_of_a_file(root: str) -> int:
    """A brick of GlusterFS has every file twice."""
    try:
        return 1 + (os.stat(os.path.join(root, ".glusterfs"), follow_symlinks=False).st_uid == 0)
    except OSError:
        return 1


def make(root: str, entry: ShareEntry, found: Observed) -> None:
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
        elif entry.state == "file" and must_be_written(entry, found):
            _write(directory, name, entry)


def _make_directories(root: str, path: str) -> None:
    """The directories above a link, for the account alone."""
    parts = as_account.steps(path)
    for count in range(1, len(parts)):
        with (
            as_account.parent(root, "/".join(parts[:count])) as (directory, name),
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(name, 0o755, dir_fd=directory)


def _write(directory: int, name: str, entry: ShareEntry) -> None:
    content = entry.content if entry.content is not None else secrets.token_urlsafe(entry.generate)
    owner = (entry.owner, entry.group) if os.geteuid() == 0 else None
    mode = entry.mode if entry.through is None else entry.mode & 0o700
    with contextlib.suppress(FileExistsError):  # another node was faster: its token holds
        as_account.put(directory, name, content.encode(), mode, owner=owner, exclusive=entry.first)


def finish(root: str, entry: ShareEntry) -> None:
    """Owner, group and permissions of what is there now, and is what it should be."""
    path = os.path.join(root, entry.path)
    with as_account.parent(root, entry.path) as place, _held(*place) as held:
        found = _look(held, entry)
        ours = (entry.owner, os.geteuid(), *entry.former)
        if found.kind != entry.kind or found.owner not in ours:
            remedy = "Look who works there, and run again."
            raise GpusteadError(f"{path} was exchanged meanwhile", f"a {entry.kind} of uid {entry.owner}", remedy)
        _refuse_to_open(held, entry, found, path)
        if (found.owner, found.group) != (entry.owner, entry.group):
            os.chown(_through(held), entry.owner if found.owner != entry.owner else -1, entry.group)
        if stat.S_IMODE(os.fstat(held).st_mode) != entry.mode:
            os.chmod(_through(held), entry.mode)
        if found.inherits is False:
            _have_inherited(held, entry)


def _refuse_to_open(held: int, entry: ShareEntry, found: Observed, path: str) -> None:
    """What holds something may be the owner's own, moved there by others."""
    right = (found.owner, found.group, found.mode) == (entry.owner, entry.group, entry.mode)
    if entry.once and entry.kind == "directory" and not right and os.listdir(_through(held)):
        ids = f"{entry.owner}:{entry.group}"
        raise GpusteadError(
            f"{path} has {found.owner}:{found.group} {found.mode:04o} and is not empty",
            f"{ids} {entry.mode:04o}, or an empty directory",
            f"Look whose it is: as that, chown {ids} and chmod {entry.mode:04o}; or move it out of the way.",
        )


def apply(root: str, entry: ShareEntry, check: bool, steps: Sequence[str] = ("make", "finish")) -> list[str]:
    """Observe, plan and apply one entry, as whoever we are now; returns before and after."""
    found = _fresh(partial(observe, root, entry))
    change = plan(entry, found)
    if change.changed and not check:
        if "make" in steps:
            make(root, entry, found)
        if "finish" in steps and entry.state not in ("absent", "link"):
            _fresh(partial(finish, root, entry))
    return [change.before, change.after]


def _fresh(look: Callable[[], _T]) -> _T:
    """Once more where another node has just replaced what was open: over NFS that is gone then."""
    try:
        return look()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return look()


def apply_as_root(root: str, entry: ShareEntry, check: bool, trusted: Collection[int] = ()) -> list[str]:
    """Apply one entry where root alone may write: in a directory of others a link could be put in its place meanwhile.

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
        is_trusted = found.st_uid in (0, *trusted) and not found.st_mode & stat.S_IWOTH
        if not is_trusted or (found.st_mode & stat.S_IWGRP and found.st_gid not in trusted):
            place = os.path.join(root, *parts[: count - 1])
            raise PermissionError(f"{place} can be changed by others than root")
    return apply(root, entry, check)


# From outside.


def is_mounted(root: str, check: bool) -> bool:
    """Whether the share is there; in a check it need not be yet. Raises GpusteadError where it must be.

    By the kernel's own list: whoever asks for the directory waits for a NAS that does not answer, without an end.
    """
    above, name = os.path.split(root.rstrip("/"))
    path = os.path.join(os.path.realpath(above), name)
    seen = mounts.mounted().get(path)
    if seen is not None and seen.fstype == AUTOFS:
        _answers(f"{root}/.", _MOUNTING)  # it mounts when it is asked for
        seen = mounts.mounted().get(path)
    mounted = seen is not None and seen.fstype != AUTOFS
    if mounted or check:
        return mounted
    raise GpusteadError(f"nothing is mounted on {root}", "the share", "Run role nas first, or mount it.")


def apply_all(
    root: str,
    entries: Iterable[ShareEntry],
    check: bool,
    timeout: float = 60,
    *,
    refused: list[Refusal] | None = None,
    trusted: Collection[int] = (),
) -> list[EntryChange]:
    """Apply entries in their order, each as its owner, or as root where only root may write.

    Args:
        root: where the share is mounted; a path that only root can change.
        check: change nothing.
        timeout: seconds for one entry; all of them have five times as long, and each owner has an equal part of what is
            left of that, so that no number of accounts uses up what others need. Where after one that did not answer
            the root of the share does not either, within a quarter of it, no other is waited for.
        refused: takes the entries that could not be made so, and what lies below them; without it the first one is
            raised.
        trusted: ids of accounts that nobody logs in as: root also works in their directories.

    Raises:
        GpusteadError: an entry was refused, and there is no list for it.
    """
    entries = list(entries)
    deadline = time.monotonic() + _PATIENCE * timeout
    slow: set[int] = set()
    silent = ""
    changes = []
    for number, entry in enumerate(entries):
        began = time.monotonic()
        waiting = {later.owner for later in entries[number:]} - slow
        left = min(timeout, (deadline - began) / max(1, len(waiting)))
        try:
            _refuse_below(root, entry, refused or ())
            if silent:
                raise GpusteadError(silent, "an answer", "See what the NAS and the network do, and run again.")
            if entry.owner in slow or left <= 0:
                what = f"{os.path.join(root, entry.path)} was not looked at: what came before it took too long"
                raise GpusteadError(what, "answers in time", "See what hangs there, and run again.")
            changes.append(_apply_as_owner(root, entry, check, left, trusted))
        except GpusteadError as error:
            if time.monotonic() - began >= left:
                slow.add(entry.owner)
                silent = silent or ("" if _answers(root, timeout / 4) else f"the share on {root} does not answer")
            if refused is None:
                raise
            refused.append(Refusal.of(entry.path, error))
            changes.append(EntryChange("", ""))
    return changes


def _answers(root: str, timeout: float) -> bool:
    """Whether it is an entry alone that does not."""
    try:
        return bool(as_account.run(lambda: os.statvfs(root).f_bsize, _ROOT, timeout=timeout, place=root))
    except (GpusteadError, PermissionError):
        return False


def _refuse_below(root: str, entry: ShareEntry, refused: Iterable[Refusal]) -> None:
    above = next((one for one in refused if entry.path.startswith(f"{one.name}/")), None)
    if above:
        what = f"{os.path.join(root, entry.path)} was left alone, because {above.what}"
        raise GpusteadError(what, above.expected, above.remedy)


def _apply_as_owner(root: str, entry: ShareEntry, check: bool, timeout: float, trusted: Collection[int]) -> EntryChange:
    path = os.path.join(root, entry.path)

    def do(work: Callable[[], list[str]], who: Identity) -> EntryChange:
        return EntryChange(*as_account.run(work, who, timeout=timeout, size=16 * SIZE, memory=64 * SIZE, place=path))

    owner = Identity(entry.owner, entry.group)
    try:
        if entry.through is None:
            return do(partial(apply, root, entry, check), owner)
        # Each step with the one group that lets it: an NFS server may know no other of the account's.
        change = do(partial(apply, root, entry, check, ("make",)), Identity(entry.owner, entry.through))
        if change.changed and not check:
            do(partial(apply, root, entry, check, ("finish",)), owner)
        return change
    except PermissionError as denied:
        try:
            return do(partial(apply_as_root, root, entry, check, trusted), _ROOT)
        except PermissionError as as_root:
            raise GpusteadError(
                f"{path} cannot be written by uid {entry.owner} ({denied.strerror}), nor by root"
                f" ({as_root.strerror or as_root})",
                "a share on which its owner may write",
                how_to_make_on_server(entry),
            ) from None


def check_root(root: str, owner: Identity, timeout: float = 60) -> list[Refusal]:
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
