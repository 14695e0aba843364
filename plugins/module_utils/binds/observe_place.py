# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A place, opened step by step without a link, and held against what is declared of it."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterable, Iterator

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import fstab
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS

_PEOPLE = range(1000, 65534)  # below are the system's own, above is nobody
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_place(bind: Bind) -> int:
    """The place, opened without a link and looked at; a descriptor that can be mounted.

    Raises:
        GpusteadError: it is not what it must be.
    """
    never = dict(_identities(bind.never))
    _refuse_an_accounts_mount(bind)
    _refuse_what_is_missing(bind)
    try:
        # As a directory: that mounts what is only mounted when it is asked for.
        at = os.open(bind.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _missing(bind.root) from None
    seen = bind.root.rstrip("/")
    try:
        on = mounts.mounted().get(os.path.realpath(bind.root))
        if bind.mounted and (on is None or on.fstype == AUTOFS):
            raise GpusteadError(f"nothing is mounted on {bind.root}", "the share", "Run role nas first, or mount it.")
        *way, last = as_account.steps(bind.path)
        for name, is_last in [*((step, False) for step in way), (last, True)]:
            above, seen = os.fstat(at), f"{seen}/{name}"
            inner = _step(at, name, seen, is_last)
            if bind.cover:
                _refuse_who_can_rename(seen, above, os.fstat(inner))
            os.close(at)
            at = inner
            status = os.fstat(at)
            held = never.get((status.st_dev, status.st_ino))
            if held:
                raise GpusteadError(f"{seen} is {held}", "another directory", "Bind one that holds data alone.")
        refuse_another_owner(bind, os.fstat(at))
        return at
    except BaseException:
        os.close(at)
        raise


def _refuse_who_can_rename(path: str, above: os.stat_result, status: os.stat_result) -> None:
    """Raise where others than root can move what lies at a path: what is covered there would not be, after a boot."""
    mine = stat.S_IMODE(above.st_mode) & (stat.S_IWGRP | stat.S_IWOTH) == 0
    kept = bool(above.st_mode & stat.S_ISVTX) and status.st_uid == 0
    if above.st_uid != 0 or not (mine or kept):
        folder = os.path.dirname(path) or "/"
        remedy = f"Give {folder} to root (chown root:root, chmod go-w), or bind a directory that lies in one of root's."
        raise GpusteadError(f"{path} can be moved by others than root", "to be written, one that cannot", remedy)


def _refuse_what_is_missing(bind: Bind) -> None:
    """Raise where the disk is not there yet: the directory beneath is no place, and a cover there would keep systemd
    from mounting it."""
    missing = sorted(fstab.awaited([bind]))
    if missing:
        what = f"nothing is mounted on {missing[0]}, as /etc/fstab has it"
        raise GpusteadError(what, f"what holds {bind.source}", f"Mount it (mount {missing[0]}).")


def _refuse_an_accounts_mount(bind: Bind) -> None:
    """Raise where an account has mounted something on the way: it need not answer, and no signal ends the waiting."""
    seen, at = mounts.mounted(), bind.root.rstrip("/")
    for name in as_account.steps(bind.path):
        at = f"{at}/{name}"
        if at in seen and seen[at].holder:
            what = f"on {at} is a mount that uid {seen[at].holder} has made ({seen[at].fstype})"
            raise GpusteadError(what, "nothing of an account's mounted there", f"Unmount it (umount -l {at}).")


def _step(at: int, name: str, seen: str, is_last: bool) -> int:
    """A directory, or as the last step a regular file."""
    try:
        kind = stat.S_IFMT(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        if kind == stat.S_IFDIR or (is_last and kind == stat.S_IFREG):
            inner = os.open(name, _STEP | (os.O_DIRECTORY if kind == stat.S_IFDIR else 0), dir_fd=at)
            if stat.S_IFMT(os.fstat(inner).st_mode) == kind:
                return inner
            os.close(inner)
    except FileNotFoundError:
        raise _missing(seen) from None
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):  # else it was exchanged meanwhile
            error.filename = seen
            raise
        kind = stat.S_IFLNK
    what = "a symbolic link" if kind == stat.S_IFLNK else "no directory"
    raise GpusteadError(f"{seen} is {what}", "a directory", "Move it out of the way, and put back what was there.")


def _missing(path: str) -> GpusteadError:
    return GpusteadError(f"{path} is not there", "a directory", "Make it, or put back what was there.")


def _identities(paths: Iterable[str]) -> Iterator[tuple[tuple[int, int], str]]:
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            yield (status.st_dev, status.st_ino), path


def refuse_another_owner(bind: Bind, status: os.stat_result) -> None:
    taken = bind.only_account not in (None, status.st_uid) and _is_account(status.st_uid)
    if taken or (bind.owner is not None and status.st_uid != bind.owner):
        expected = f"uid {bind.owner}" if bind.owner is not None else "nobody's own directory"
        remedy = "Give it to its owner where it is stored (chown), or put back what was there."
        raise GpusteadError(f"{bind.source} belongs to uid {status.st_uid}", expected, remedy)


def _is_account(uid: int) -> bool:
    """Whether somebody may log in with it on this host, as the accounts are now."""
    try:
        return uid in _PEOPLE and bool(pwd.getpwuid(uid))
    except KeyError:
        return False
