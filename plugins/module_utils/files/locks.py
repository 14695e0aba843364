# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files by which root's programs wait for one another. Whoever may open one may lock it, and keep them waiting.

Some programs make theirs for all to read, again at each use. Then it is the directory that is closed to accounts.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import names as names_of
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.renumber_files import mount_of
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mountinfo, mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# 12: FLOCK  ADVISORY  WRITE 9304 fe:00:1509661 0 EOF; of one who waits for it: 12: -> FLOCK …
_LOCK = re.compile(r"\d+: (?:FLOCK|POSIX|OFDLCK) +\S+ +\S+ (-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ")


@dataclass(frozen=True)
class LockHolder:
    """An account's process that has locked a file. `command` is empty where it has ended meanwhile."""

    path: str
    account: str
    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) of account '{self.account}' had locked {self.path}"


def close_file(path: str, root: str = "/") -> list[LockHolder]:
    """Have a file there that root alone can open; to be called before the program that locks it, and keeps its mode.

    Another, empty one is put in the place of one that is open to others: what holds that keeps nobody waiting then.

    Args:
        path: the file, which only the program that locks it knows.
        root: stands before /proc and /etc/passwd.

    Returns:
        The accounts that had locked it.

    Raises:
        GpusteadError: it cannot be made.
    """
    try:
        status = _status(path)
        if status and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return []
        held = list(_holders(path, status, root))
        _replace(path, None)
    except OSError as error:
        raise of_system(error, f"the lock {path}") from error
    return held


@dataclass(frozen=True)
class Closed:
    """What was done to a directory: whether it had been open to others, and which accounts had locked files in it."""

    was_open: bool
    held: tuple[LockHolder, ...]


def close_directory(path: str, *, check: bool = False, root: str = "/") -> Closed:
    """Have a directory that root alone can enter, and in it no file that an account has locked or could lock still.

    Files that were open to accounts are replaced by copies, except those that a process of root's has locked: that one
    is at work, and ends.

    Args:
        path: the directory, root's. It is made where there is none.
        check: whether only to tell what would be done.
        root: stands before /proc and /etc/passwd.

    Raises:
        GpusteadError: it cannot be done.
    """
    try:
        with contextlib.suppress(FileExistsError):
            if not check:
                os.mkdir(path, 0o700)
        status = _status(path)
        was_open = status is None or bool(status.st_mode & 0o077)
        if status is not None and was_open and not check:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o700)
            finally:
                os.close(descriptor)
        held: list[LockHolder] = []
        for name in sorted(os.listdir(path)) if status is not None else ():
            held += _free(f"{path}/{name}", was_open, check, root)
    except OSError as error:
        raise of_system(error, f"the locks in {path}") from error
    return Closed(was_open, tuple(held))


def _free(path: str, was_open: bool, check: bool, root: str) -> list[LockHolder]:
    """Replace a file that an account has locked, or may have opened; the accounts that have locked it."""
    status = _status(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return []
    holders = list(_holders(path, status, root, everybody=True))
    accounts = [one for one in holders if one.account != "root"]
    if not check and (accounts or (was_open and status.st_mode & 0o044 and not holders)):
        _replace(path, status)
    return accounts


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _replace(path: str, copied: os.stat_result | None) -> None:
    """Put another file there: a copy, or an empty one that root alone can open."""
    fresh = f"{path}.{secrets.token_hex(6)}"
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
            if copied:
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as source:
                    shutil.copyfileobj(source, target)
                os.fchmod(target.fileno(), stat.S_IMODE(copied.st_mode))
                os.fchown(target.fileno(), copied.st_uid, copied.st_gid)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _holders(path: str, status: os.stat_result | None, root: str, everybody: bool = False) -> Iterator[LockHolder]:
    """Who has locked a file; root only with `everybody`."""
    if status is None:
        return
    names, device = names_of(Path(root, "etc/passwd").read_text(errors="replace")), ""
    for line in Path(root, "proc/locks").read_text().splitlines():
        found = _LOCK.match(line)
        if not found or int(found[4]) != status.st_ino:
            continue
        # On a file system of its own an account can have a file of the same number.
        device = device or _device(path)
        if f"{int(found[2], 16)}:{int(found[3], 16)}" != device:
            continue
        # One that has ended, and left its lock to a child, is somebody's.
        uid, command = _process(Path(root, "proc", found[1]))
        account = names.get(uid, f"uid {uid}") if uid >= 0 else "unknown"
        if everybody or account != "root":
            yield LockHolder(path, account, int(found[1]), command)


def _device(path: str) -> str:
    """The file system of a file as the kernel lists it, which is not always what stat says (Btrfs)."""
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        number = str(mount_of(place))
    finally:
        os.close(place)
    return next((seen.device for mount, _above, seen in mountinfo.each(mounts.listed()) if mount == number), "")


def _process(place: Path) -> tuple[int, str]:
    """Real uid and name. Not of the owner of its directory: that is root's of whoever forbids core dumps."""
    try:
        uid = re.search(r"^Uid:\t(\d+)", (place / "status").read_text(errors="replace"), re.MULTILINE)
        return int(uid[1]) if uid else -1, shown((place / "comm").read_text(errors="replace").strip())
    except OSError:
        return -1, ""
