# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of an account that is renumbered: below a directory, given to its new ids.

The account made what lies there, and others may rename and link it meanwhile. So nothing is decided by a name: each
entry is opened first (as a place, which neither reads a device nor waits for a FIFO), and its ids, its mount and its
permissions are those of what was opened. However deep it is, only so many descriptors are held.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Renumbering
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_EMPTY_PATH = 0x1000  # linux/fcntl.h

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Levels that keep their descriptor; 1024 are allowed as a rule.
_HELD = 64
# How often a tree is gone through in which directories are moved meanwhile.
_PASSES = 20
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP)


@dataclass
class _Level:
    """A directory on the way down: open, or closed (-1) and to be found again as what is above the next one."""

    name: str
    directory: int
    key: tuple[int, int]
    below: list[str] = field(default_factory=list)


def rechown(root: str, renumbering: Renumbering) -> None:
    """Give what lies below a directory to its new ids, on this mount alone and through no symbolic link.

    A directory that is not there is none of the account's. Raises GpusteadError where something cannot be changed, or
    where directories are moved about all the time.
    """
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise GpusteadError(f"root {root}: {error.strerror}", "a directory", "Correct roots.") from error
    try:
        for _pass in range(_PASSES):
            if _Walk(root, os.open(".", _LIST, dir_fd=top), renumbering).done():
                return
    finally:
        os.close(top)
    what = f"directories below {root} are moved while the files of '{renumbering.name}' are given to their new ids"
    raise GpusteadError(what, "nobody to change them", "See who does (lsof), end that, then run again.")


class _Walk:
    """One pass through a tree; `top` is closed by it."""

    def __init__(self, root: str, top: int, renumbering: Renumbering) -> None:
        self.root, self.renumbering = root, renumbering
        self.mount = mount_of(top)
        self.complete = True
        self.stack: list[_Level] = []
        self._enter(root, top)

    def done(self) -> bool:
        """Go through all of it; False where a directory was moved away with others of its parent still to come."""
        try:
            while self.stack:
                level = self.stack[-1]
                if level.below:
                    self._down(level)
                else:
                    self._up()
        finally:
            for level in self.stack:
                self._close(level)
        return self.complete

    def _down(self, level: _Level) -> None:
        name = level.below.pop()
        try:
            inner = self._open(level.directory, name)
        except OSError as error:
            if error.errno in _GONE:  # removed, or exchanged, by somebody else meanwhile
                return
            raise self._failed(error, name) from error
        if inner < 0:
            return
        if len(self.stack) >= _HELD:
            self._close(level)
        self._enter(name, inner)

    def _open(self, directory: int, name: str) -> int:
        """A directory to be read; -1 where something else is mounted, which may answer nobody or never."""
        place = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=directory)
        try:
            return os.open(".", _LIST, dir_fd=place) if mount_of(place) == self.mount else -1
        finally:
            os.close(place)

    def _enter(self, name: str, directory: int) -> None:
        """The directory itself, what is no directory in it, and what is to be entered next."""
        info = os.fstat(directory)
        level = _Level(name, directory, (info.st_dev, info.st_ino))
        self.stack.append(level)
        self._give(directory, info, "")
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        level.below.append(entry.name)
                    else:
                        self._entry(directory, entry.name)
        except OSError as error:
            if error.errno not in _GONE:
                raise self._failed(error, "") from error

    def _entry(self, directory: int, name: str) -> None:
        try:
            place = os.open(name, _PLACE, dir_fd=directory)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise self._failed(error, name) from error
        try:
            info = os.fstat(place)
            if stat.S_ISDIR(info.st_mode):  # it was something else when the directory was read
                self.stack[-1].below.append(name)
            else:
                self._give(place, info, name)
        finally:
            os.close(place)

    def _give(self, place: int, info: os.stat_result, name: str) -> None:
        ids = self.renumbering.ids(info.st_uid, info.st_gid)
        if ids == (info.st_uid, info.st_gid) or mount_of(place) != self.mount:
            return
        try:
            give(place, ids)
            keep_own_bits(place, info, self.renumbering)
        except OSError as error:
            raise self._failed(error, name) from error

    def _up(self) -> None:
        """Leave a directory. The one above, where it was closed, must be the same one that was left."""
        level = self.stack.pop()
        try:
            if self.stack and self.stack[-1].directory < 0:
                self._again(level.directory)
        finally:
            self._close(level)

    def _again(self, inner: int) -> None:
        above = self.stack[-1]
        with contextlib.suppress(OSError):
            found = os.open("..", _LIST, dir_fd=inner)
            info = os.fstat(found)
            if (info.st_dev, info.st_ino) == above.key:
                above.directory = found
                return
            os.close(found)
        # Moved: what is still to come in the closed ones is for the next pass.
        self.complete = False
        while self.stack and self.stack[-1].directory < 0:
            self.stack.pop()

    def _close(self, level: _Level) -> None:
        if level.directory >= 0:
            os.close(level.directory)
            level.directory = -1

    def _failed(self, error: OSError, name: str) -> GpusteadError:
        names = [self.root, *(level.name for level in self.stack[1:]), *([name] if name else [])]
        path = shown("/".join(names), 200)
        remedy = "Remove the cause (an attribute such as immutable, a damaged file system), then run again."
        owner = f"uid {self.renumbering.uid} of '{self.renumbering.name}'"
        return GpusteadError(f"{path} cannot be given to {owner}: {error.strerror}", "it to be", remedy)


def mount_of(file: int) -> int:
    """The mount that an open file was found on: a bind mount has the device of what it shows."""
    for line in Path(f"/proc/self/fdinfo/{file}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split()[1])
    raise GpusteadError("/proc/self/fdinfo has no mnt_id", "Linux 3.15 or newer", "Update the kernel.")


def give(place: int, ids: tuple[int, int]) -> None:
    """Change the owner of exactly what was opened, a symbolic link too. Raises OSError.

    Linux takes setuid bits and capabilities from a file whose owner changes, in the same step.
    """
    if _LIBC.fchownat(place, b"", ctypes.c_uint(ids[0]), ctypes.c_uint(ids[1]), _AT_EMPTY_PATH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def keep_own_bits(place: int, before: os.stat_result, renumbering: Renumbering) -> None:
    """Put setuid and setgid back on a program that was the account's own before, under its old number.

    Never where somebody else may have written it meanwhile, for whom Linux would have taken the bits; and never a
    capability, which is root's and no account's.
    """
    if not stat.S_ISREG(before.st_mode) or before.st_uid not in renumbering.old_uids:
        return
    bits = before.st_mode & (stat.S_ISUID | (stat.S_ISGID if before.st_gid in renumbering.old_gids else 0))
    now = os.fstat(place)
    alone = now.st_nlink == 1 and not (now.st_mode | before.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    same = (now.st_mtime_ns, now.st_size) == (before.st_mtime_ns, before.st_size)
    if bits and alone and same:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IMODE(now.st_mode) | bits)
