# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's mounts: what is mounted, and its calls that mount what is open, so that no path is followed twice."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mountinfo
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted

PROPAGATIONS = ("private", "slave", "shared")

# The same numbers on all machines: linux/mount.h, linux/fcntl.h, asm-generic/unistd.h
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _AT_RECURSIVE, _AT_EMPTY_PATH, _AT_NO_AUTOMOUNT = 1, 0x8000, 0x1000, 0x800
_FROM_DESCRIPTOR, _ONTO_DESCRIPTOR = 0x4, 0x40
_RDONLY, _NOSUID, _NODEV = 1, 2, 4
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_PROPAGATION = {"shared": 1 << 20, "private": 1 << 18, "slave": 1 << 19}
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_AT_FDCWD = -100
_CLONE_NEWNS, _MS_REC = 0x20000, 0x4000
_LIBC = ctypes.CDLL(None, use_errno=True)


def mounted() -> dict[str, Mounted]:
    """What is mounted now, by path."""
    return mountinfo.parse(listed())


def listed() -> str:
    """The kernel's list, for `mountinfo`."""
    with open(mountinfo.PATH, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def is_harmless_everywhere(device: int) -> bool:
    """Whether a file system is seen at all, and nowhere with setuid programs and devices; its st_dev."""
    seen = [one for _first, _second, one in mountinfo.each(listed())]
    here = [one for one in seen if one.device == f"{os.major(device)}:{os.minor(device)}"]
    return bool(here) and all(one.is_harmless for one in here)


def is_harmless(flags: int) -> bool:
    """Whether setuid programs and devices do nothing there; `flags` of os.fstatvfs."""
    return bool(flags & os.ST_NOSUID and flags & os.ST_NODEV)


def _system(number: int, what: str, *arguments: Any) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _set(tree: int, flags: int, propagation: str) -> None:
    given = _Attributes(flags, 0, _PROPAGATION[propagation] if propagation else 0, 0)
    how = _AT_EMPTY_PATH | _AT_RECURSIVE
    _system(_MOUNT_SETATTR, "mount_setattr", tree, b"", how, ctypes.byref(given), ctypes.sizeof(given))


def _clone(place: int) -> int:
    """The mounts of a place, seen nowhere yet."""
    how = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
    return _system(_OPEN_TREE, "open_tree", place, b"", how)


def attach(place: int, target: str, read_only: bool, propagation: str) -> None:
    """Mount what is open: with its flags before anybody sees it."""
    tree = _clone(place)
    try:
        # From the place, never to it, whatever is done or unmounted here.
        flags = _NOSUID | _NODEV | (_RDONLY if read_only else 0)
        _set(tree, flags, "private" if propagation == "private" else "slave")
        _system(_MOVE_MOUNT, "move_mount", tree, b"", _AT_FDCWD, os.fsencode(target), _FROM_DESCRIPTOR)
        if propagation == "shared":
            _set(tree, 0, "shared")
    finally:
        os.close(tree)


def cover(place: int, anyhow: bool = False) -> None:
    """Mount a place on itself without setuid programs and devices, where it has them, or `anyhow`."""
    if is_harmless(os.fstatvfs(place).f_flag) and not anyhow:
        return
    tree = _clone(place)
    try:
        _set(tree, _NOSUID | _NODEV, "slave")
        how = _FROM_DESCRIPTOR | _ONTO_DESCRIPTOR
        _system(_MOVE_MOUNT, "move_mount", tree, b"", place, b"", how)
    finally:
        os.close(tree)


def make_harmless(target: str) -> None:
    """Take setuid programs and devices from what is mounted, and leave all its other options."""
    _set_at(target, _Attributes(_NOSUID | _NODEV, 0, 0, 0))


def _set_at(target: str, given: _Attributes) -> None:
    place = (_AT_FDCWD, os.fsencode(target), _AT_NO_AUTOMOUNT)
    _system(_MOUNT_SETATTR, "mount_setattr", *place, ctypes.byref(given), ctypes.sizeof(given))


def set_read_only(target: str, read_only: bool) -> None:
    """Whether nobody can change what is mounted there by this mount of it."""
    _set_at(target, _Attributes(*((_RDONLY, 0) if read_only else (0, _RDONLY)), 0, 0))


def detach(target: str) -> None:
    """Let go of a place at once, also of one that does not answer. Containers keep what they have."""
    while target in mounted():
        if _LIBC.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), target)
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(target)
        os.rmdir(target) if stat.S_ISDIR(status.st_mode) else os.unlink(target)


def look_beneath_accounts() -> None:
    """Have nothing of what accounts have mounted, nor of what anybody mounts from now on, in this process and what it
    starts: what an account has put beneath is seen. For a forked child alone, as root. Raises OSError."""
    private = ctypes.c_ulong(_MS_REC | _PROPAGATION["private"])
    if _LIBC.unshare(_CLONE_NEWNS) or _LIBC.mount(None, b"/", None, private, None):
        code = ctypes.get_errno()
        raise OSError(code, f"no mounts of our own: {os.strerror(code)}")
    beneath: set[str] = set()
    # The shortest first: what lies in one is reached, or gone, without it.
    while theirs := sorted((path for path, one in mounted().items() if one.holder and path not in beneath), key=len):
        if _LIBC.umount2(os.fsencode(theirs[0]), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
            code = ctypes.get_errno()
            if code not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):  # beneath a mount of somebody else's
                raise OSError(code, f"what accounts have mounted stays: {os.strerror(code)}", theirs[0])
            beneath.add(theirs[0])


def mount_memory(directory: str) -> None:
    """Mount a small file system in memory that only root enters, and whose mounts are passed on to nobody."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    options = b"mode=0700,size=1m"
    for source, kind, how, data in (
        (b"gpustead-binds", b"tmpfs", flags, options),
        (None, None, _PROPAGATION["private"], None),
    ):
        if _LIBC.mount(source, os.fsencode(directory), kind, ctypes.c_ulong(how), data) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), directory)
