# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of an account that is renumbered: below a directory, given to its new ids.

The account made what lies there, and others may rename and link it meanwhile. So nothing is decided by a name: each
entry is opened first (as a place, which neither reads a device nor waits for a FIFO), and its ids, its mount and its
permissions are those of what was opened. However deep it is, only so many descriptors are held.

What others do to directories of theirs meanwhile is for nobody else to wait for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import stat
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Renumbering
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_EMPTY_PATH = 0x1000  # linux/fcntl.h

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Levels that keep their descriptor: of these nothing is lost when directories are moved. Some are for all else.
_HELD, _MOST, _ELSE = 64, 50_000, 128
# How often a tree is gone through in which directories are moved meanwhile; and where all of these are others'.
_PASSES, _OF_OTHERS = 20, 3
# Directories of one owner that were made, moved or changed since a pass has begun, and are entered in it: somebody may
# make them faster than they are gone through.
_CHANGING = 50_000
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP)


@dataclass
class _Level:
    """A directory on the way down: open, or closed (-1) and to be found again as what is above the next one."""

    name: str
    directory: int
    key: tuple[int, int]
    owner: int
    below: list[str] = field(default_factory=list)


def renumber_files(root: str, renumbering: Renumbering) -> None:
    """Give what lies below a directory to its new ids, on this mount alone and through no symbolic link.

    A directory that is not there is none of the account's. Raises GpusteadError where something cannot be changed, or
    where directories of root's or of the account are moved about all the time.
    """
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise GpusteadError(f"root {root}: {error.strerror}", "a directory", "Correct roots.") from error
    try:
        with descriptors() as held:
            mine = {0, renumbering.uid, *renumbering.old_uids}
            for passed in range(_PASSES):
                walk = _Renumber(root, os.open(".", LIST, dir_fd=top), held, renumbering)
                walk.go()
                if walk.endless & mine:
                    break
                if not walk.lost or (passed >= _OF_OTHERS and not walk.lost & mine):
                    return
    finally:
        os.close(top)
    what = f"directories below {root} are moved or made while the files of '{renumbering.name}' get their new ids"
    raise GpusteadError(what, "nobody to change them", "See who does (lsof), end that, then run again.")


@contextlib.contextmanager
def descriptors() -> Iterator[int]:
    """As many as this process may have, for a while; gives how many levels of a tree may hold one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST + _ELSE if hard == resource.RLIM_INFINITY else min(hard, _MOST + _ELSE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield max(_HELD, most - _ELSE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Walk(ABC):
    """One pass through a tree, on one mount and through no link; `top` is closed by it.

    Attributes:
        held: how many levels keep their descriptor.
        lost: who owns the directories that were moved away with others of their parents still to come, and those.
        endless: who owns more that change than are entered.
    """

    def __init__(self, root: str, top: int, held: int) -> None:
        self.root, self.held, self.top = root, held, top
        self.mount = mount_of(top)
        self.lost, self.endless = set[int](), set[int]()
        self.stack: list[_Level] = []
        self.began = time.time_ns()
        self.changing = Counter[int]()

    @property
    def complete(self) -> bool:
        return not self.lost | self.endless

    @abstractmethod
    def visit(self, place: int, info: os.stat_result, name: str) -> None:
        """What is done with an entry of this mount, open as a place; `name` is empty for the directory itself."""

    def passes_by(self, info: os.stat_result) -> bool:
        """Whether what is in a directory is of no interest."""
        return False

    def worth(self, directory: int, name: str) -> bool:
        """Whether an entry that is no directory is to be opened."""
        return True

    @abstractmethod
    def failed(self, error: OSError, name: str) -> GpusteadError:
        """What it means that an entry cannot be looked at."""

    def go(self) -> None:
        """Go through all of it."""
        try:
            self._enter(self.root, self.top)
            while self.stack:
                level = self.stack[-1]
                if level.below:
                    self._down(level)
                else:
                    self._up()
        finally:
            for level in self.stack:
                self._close(level)

    def _down(self, level: _Level) -> None:
        name = level.below.pop()
        try:
            inner = self._open(level.directory, name)
        except OSError as error:
            if error.errno in _GONE:  # removed, or exchanged, by somebody else meanwhile
                return
            raise self.failed(error, name) from error
        if inner < 0:
            return
        if len(self.stack) >= self.held:
            self._close(level)
        self._enter(name, inner)

    def _open(self, directory: int, name: str) -> int:
        """A directory to be read; -1 where something else is mounted, which may answer nobody or never."""
        place = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=directory)
        try:
            return os.open(".", LIST, dir_fd=place) if mount_of(place) == self.mount else -1
        finally:
            os.close(place)

    def _enter(self, name: str, directory: int) -> None:
        """The directory itself, what is no directory in it, and what is to be entered next."""
        info = os.fstat(directory)
        level = _Level(name, directory, (info.st_dev, info.st_ino), info.st_uid)
        self.stack.append(level)
        self.visit(directory, info, "")
        if self.passes_by(info) or self._changes_without_end(info):
            return
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        level.below.append(entry.name)
                    elif self.worth(directory, entry.name):
                        self._entry(directory, entry.name)
        except OSError as error:
            if error.errno not in _GONE:
                raise self.failed(error, "") from error

    def _changes_without_end(self, info: os.stat_result) -> bool:
        """Whether the owner of a directory has too many of these. Nobody can set the time by which that is seen."""
        if info.st_ctime_ns < self.began:
            return False
        self.changing[info.st_uid] += 1
        if self.changing[info.st_uid] <= _CHANGING:
            return False
        self.endless.add(info.st_uid)
        return True

    def _entry(self, directory: int, name: str) -> None:
        try:
            place = os.open(name, _PLACE, dir_fd=directory)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise self.failed(error, name) from error
        try:
            if mount_of(place) != self.mount:  # not even its ids: an account's own file system may answer nobody
                return
            info = os.fstat(place)
            if stat.S_ISDIR(info.st_mode):  # it was something else when the directory was read
                self.stack[-1].below.append(name)
            else:
                self.visit(place, info, name)
        finally:
            os.close(place)

    def _up(self) -> None:
        """Leave a directory. The one above, where it was closed, must be the same one that was left."""
        level = self.stack.pop()
        try:
            if self.stack and self.stack[-1].directory < 0:
                self._again(level)
        finally:
            self._close(level)

    def _again(self, left: _Level) -> None:
        above = self.stack[-1]
        with contextlib.suppress(OSError):
            found = os.open("..", LIST, dir_fd=left.directory)
            info = os.fstat(found)
            if (info.st_dev, info.st_ino) == above.key:
                above.directory = found
                return
            os.close(found)
        # Moved: what is still to come in the closed ones is for the next pass.
        self.lost.add(left.owner)
        while self.stack and self.stack[-1].directory < 0:
            self.lost.add(self.stack.pop().owner)

    def _close(self, level: _Level) -> None:
        if level.directory >= 0:
            os.close(level.directory)
            level.directory = -1

    def path(self, name: str = "") -> str:
        """Where the walk is, as it may be shown."""
        names = [self.root.rstrip("/"), *(level.name for level in self.stack[1:]), *([name] if name else [])]
        return shown("/".join(names), 200)


class _Renumber(Walk):
    def __init__(self, root: str, top: int, held: int, renumbering: Renumbering) -> None:
        super().__init__(root, top, held)
        self.renumbering = renumbering

    def visit(self, place: int, info: os.stat_result, name: str) -> None:
        ids = self.renumbering.ids(info.st_uid, info.st_gid)
        if ids == (info.st_uid, info.st_gid):
            return
        try:
            give(place, ids)
            keep_own_bits(place, info, self.renumbering)
        except OSError as error:
            raise self.failed(error, name) from error

    def failed(self, error: OSError, name: str) -> GpusteadError:
        remedy = "Remove the cause (an attribute such as immutable, a damaged file system), then run again."
        owner = f"uid {self.renumbering.uid} of '{self.renumbering.name}'"
        return GpusteadError(f"{self.path(name)} cannot be given to {owner}: {error.strerror}", "it to be", remedy)


def mount_of(file: int) -> int:
    """The mount that an open file was found on: a bind mount has the device of what it shows."""
    with open(f"/proc/self/fdinfo/{file}", "rb", buffering=0) as about:
        for line in about.read(4096).split(b"\n"):
            if line.startswith(b"mnt_id:"):
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
