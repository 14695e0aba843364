# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One place mounted for containers, or covered: work of a child, which a file system may keep waiting."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Mapping

from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.observe_place import (
    open_place,
    refuse_another_owner,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.observe_processes import refuse_who_is_inside
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import HARMLESS, Mounted

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def mount_place(bind: Bind, target: str, check: bool, known: bool = True) -> str:
    """Work of a child: look at one place and have it mounted; says whether it was the same, new or replaced.

    `known`: whether a place that is covered was looked through before.
    """
    place = open_place(bind)
    try:
        status = os.fstat(place)
        seen = mounts.mounted()
        same = False
        if target in seen:
            with contextlib.suppress(OSError):
                now = os.stat(target, follow_symlinks=False)
                same = (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)
        same = same and _as_declared(bind, seen, target, place)
        if same and (known or check):
            return "same"
        if check:
            return "replaced" if target in seen else "new"
        if bind.cover:
            # One that is seen nowhere with setuid programs has none to start, whoever has what of it.
            known = known or mounts.is_harmless_everywhere(status.st_dev)
            mounts.cover(place, anyhow=_lacks_its_mount(bind, seen))
            os.close(place)
            place = open_place(bind)
            if not mounts.is_harmless(os.fstatvfs(place).f_flag):
                raise GpusteadError(f"{bind.source} was exchanged meanwhile", "it to stay", "See who does that.")
        if not known:
            _examine(bind, place)
        if same:
            return "same"
        if not bind.mounted and not bind.read_only:
            refuse_who_is_inside(bind.source)
        mounts.detach(target)
        try:
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(target, 0o700)
            else:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            mounts.attach(place, target, bind.read_only, bind.propagation)
        except OSError:
            mounts.detach(target)
            raise
        return "replaced" if target in seen else "new"
    finally:
        os.close(place)


def _as_declared(bind: Bind, seen: Mapping[str, Mounted], target: str, place: int) -> bool:
    """Whether the mount, and all below it, has the flags."""
    wanted = {*HARMLESS, *(["ro"] if bind.read_only else [])}
    below = [one for path, one in seen.items() if path == target or path.startswith(f"{target}/")]
    tags = " ".join(seen[target].tags)
    passes = ("shared:" in tags) == (bind.propagation == "shared")
    follows = bind.propagation != "private" or "master:" not in tags
    flags = os.fstatvfs(place).f_flag
    written = bind.read_only or flags & os.ST_RDONLY or "ro" not in seen[target].options
    covered = not bind.cover or (mounts.is_harmless(flags) and not _lacks_its_mount(bind, seen))
    return bool(passes and follows and written and covered and all(wanted <= set(one.options) for one in below))


def _lacks_its_mount(bind: Bind, seen: Mapping[str, Mounted]) -> bool:
    return bind.own and bind.source not in seen


def _examine(bind: Bind, place: int) -> None:
    """Look through a place that is covered for the first time, while nobody can change what is in it."""
    frozen = _mounts_of(bind)
    try:
        for path in frozen:
            mounts.set_read_only(path, True)
        refuse_who_is_inside(bind.source, sockets=True)
        if not bind.linked:
            _refuse_second_names(place, bind.source)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        remedy = f"End what has them (fuser -vm {bind.source}), then run again."
        what = f"files in {bind.source} are open to be written"
        raise GpusteadError(what, "none, while it is looked through", remedy) from error
    finally:
        for path in frozen:
            mounts.set_read_only(path, False)


def _mounts_of(bind: Bind) -> list[str]:
    """The mounts of a place and below it that can be written."""
    seen = mounts.mounted()
    below = [one for path, one in seen.items() if path == bind.source or path.startswith(f"{bind.source}/")]
    return [one.path for one in below if not one.is_read_only]


def _refuse_second_names(place: int, name: str) -> None:
    """Raise where a file in a place may have another name elsewhere: what root makes of it in a container would be run
    there. From here on it gets none, as a link does not lead from one mount to another."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))  # each level of depth takes one
    top = os.open(".", _FOLDER, dir_fd=place)
    ahead = [(top, name, os.listdir(top))]
    while ahead:
        folder, path, names = ahead[-1]
        if not names:
            os.close(folder)
            ahead.pop()
            continue
        entry = names.pop()
        status = os.stat(entry, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            what = f"{path}/{entry} has {status.st_nlink} names (hard links)"
            remedy = f"Copy what is meant to stay, and remove the others: find {name} -type f -links +1"
            raise GpusteadError(what, "files with one name, where containers are to write", remedy)
        if stat.S_ISDIR(status.st_mode):
            inner = os.open(entry, _FOLDER, dir_fd=folder)
            ahead.append((inner, f"{path}/{entry}", os.listdir(inner)))


def thaw(bind: Bind) -> None:
    """Work of a child: let what is covered be written again, where that was interrupted."""
    found = mounts.mounted().get(bind.source)
    if found and "ro" in found.options and "ro" not in found.of_all:
        mounts.set_read_only(found.path, False)


def is_still_its_owners(bind: Bind, target: str) -> bool:
    """Work of a child: whether what is mounted may stay although its place is refused."""
    if mounts.mounted()[target].holder:
        return False
    status = os.stat(target, follow_symlinks=False)
    try:
        refuse_another_owner(bind, status)
    except GpusteadError:
        return False
    return bind.owner is not None


def cover_place(bind: Bind) -> None:
    """Work of a child."""
    place = open_place(bind)
    try:
        mounts.cover(place, anyhow=_lacks_its_mount(bind, mounts.mounted()))
    finally:
        os.close(place)


def size_of_block(root: str) -> int:
    """Work of a child: asks the server, and nothing of what it has said before."""
    return os.statvfs(root).f_bsize
