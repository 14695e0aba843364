# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an account has left under its number that would act as whoever gets that number next.

Programs that are setuid or setgid for it, and jobs of `at`, which run as the owner of their file. They are looked for
before an id is handed on, as root and through descriptors, wherever a program may be setuid and others can come.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Range, is_within
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.renumber_files import (
    LIST,
    Walk,
    descriptors,
    mount_of,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mountinfo, mounts, processes
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Where jobs lie, each a file of its account's; of crontabs its name counts, too. Debian's, then those of others.
AT = ("var/spool/cron/atjobs", "var/spool/at")
CRON = ("var/spool/cron/crontabs", "var/spool/cron")

_SECONDS = 600
_OPEN = 60  # of them, to look through what is open
_SENT = 5  # looks, until no files are on their way in sockets
_MEMORY = 1 << 30
_TOLD = 20  # of what was done on one mount
_PASSES = 3  # of a tree that is deeper than there are descriptors, and in which directories are moved meanwhile
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# File systems of this host alone; others are nosuid, or hold the ids of the cluster.
_KINDS = ("ext", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "jfs", "reiserfs", "bcachefs", "ramfs")


@dataclass(frozen=True)
class Ids:
    """Numbers that are handed on, and so must be nobody's any more; `members`, as (uid, gid): groups that are no longer
    those of an account, whose programs would give them back; `ranges`: subordinate ids, uids and gids alike."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    members: frozenset[tuple[int, int]] = frozenset()
    ranges: frozenset[Range] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.uids or self.gids or self.members or self.ranges)

    @classmethod
    def together(cls, several: Iterable[Ids]) -> Ids:
        all_of = list(several)
        empty: frozenset[int] = frozenset()
        ranges: frozenset[Range] = frozenset()
        uids, gids = empty.union(*(ids.uids for ids in all_of)), empty.union(*(ids.gids for ids in all_of))
        return cls(uids, gids, ranges=ranges.union(*(ids.ranges for ids in all_of)))

    def among(self, had: Ids) -> Ids:
        """Those that were somebody's."""
        uids = (uid for uid in self.uids if uid in had.uids or is_within(uid, had.ranges))
        gids = (gid for gid in self.gids if gid in had.gids or is_within(gid, had.ranges))
        return Ids(frozenset(uids), frozenset(gids))

    def bits(self, info: os.stat_result) -> int:
        """Which of its bits would make a program run as one of them."""
        if not stat.S_ISREG(info.st_mode):
            return 0
        own = info.st_uid in self.uids or is_within(info.st_uid, self.ranges)
        given = info.st_gid in self.gids or (info.st_uid, info.st_gid) in self.members
        given = given or is_within(info.st_gid, self.ranges)
        return info.st_mode & ((stat.S_ISUID if own else 0) | (stat.S_ISGID if given else 0))


def clear(ids: Ids, root: str = "/") -> list[str]:
    """Take the bits from such programs, and remove such jobs.

    Returns:
        What was done, in words.

    Raises:
        GpusteadError: it cannot be done, or not all of the host could be looked at in time.
    """
    if not ids:
        return []

    def work() -> list[str]:
        known = {mount.number for mount in _mounts()}
        mounts.look_beneath_accounts()
        done = [*_clear_jobs(ids, root), *_clear_open(ids, known), *_search(ids, root)]
        # What had a name until it was looked for may have lost it meanwhile.
        return [*done, *_clear_open(ids, known)]

    said: list[str] = as_account.run(
        work,
        as_account.Identity(os.geteuid(), os.getegid()),
        timeout=_SECONDS,
        size=4 << 20,
        memory=_MEMORY,
        place="all of the host where programs may be setuid",
    )
    return said


def remove_jobs(name: str, uid: int, root: str = "/") -> list[str]:
    """Remove the jobs of an account that goes: its crontab, and those of `at`; in words."""
    done = _clear_jobs(Ids(frozenset([uid])), root)
    for folder in CRON:
        path = os.path.join(root, folder, name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.unlink(path)
            done.append(f"{path}: removed")
    return done


def _clear_jobs(ids: Ids, root: str) -> list[str]:
    """In directories that only root and the program itself can change."""
    done = []
    for folder in (*AT, *CRON):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.path.join(root, folder)) as jobs:
            for job in jobs:
                info = job.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode) and info.st_uid in ids.uids:
                    os.unlink(job.path)
                    done.append(f"{shown(job.path)}: a job of uid {info.st_uid}, removed")
    return done


def _clear_open(ids: Ids, known: Collection[int]) -> list[str]:
    """Take the bits from what somebody has open: it can be started from there, also when it has no name.

    `known`: the numbers of mounts on which programs can be setuid.
    """
    done: list[str] = []
    for _again in range(_SENT):
        carriers = set()
        for pid, link in _held():
            with contextlib.suppress(OSError):  # it was closed
                if os.readlink(link).startswith("socket:") and processes.holds_files(link) and any(processes.uids(pid)):
                    carriers.add(str(pid))
                done += _clear_held(link, ids, known)
        if not carriers:
            return done
        time.sleep(0.5)  # who only passes files on, soon has none left
    what = f"open files are on their way in sockets of processes {', '.join(sorted(carriers)[:20])}"
    remedy = f"End them (kill {' '.join(sorted(carriers)[:20])}), then run again."
    raise GpusteadError(what, "none where an id is handed on: nobody can look at them", remedy)


def _held() -> Iterator[tuple[int, str]]:
    """(process, link to what it has open) of all."""
    patience = processes.Patience(_OPEN)
    try:
        for pid in processes.numbers():
            with contextlib.suppress(OSError):  # it has ended
                yield from ((pid, link) for link in processes.held(pid, patience))
    except processes.OutOfTime as error:
        raise GpusteadError(str(error), "fewer, where an id is handed on", "End that, then run again.") from None


def _clear_held(link: str, ids: Ids, known: Collection[int]) -> list[str]:
    place = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        if mount_of(place) not in known:  # a share that is away would not answer
            return []
        info = os.fstat(place)
        return [f"{shown(os.readlink(link), 200)}: {_made_harmless(place, info, ids)}"] if ids.bits(info) else []
    finally:
        os.close(place)


def _made_harmless(place: int, info: os.stat_result, ids: Ids) -> str:
    """Take the bits from a program that is open as a place; returns what it was. Raises OSError."""
    os.chmod(f"/proc/self/fd/{place}", stat.S_IMODE(info.st_mode) & ~ids.bits(info))
    return f"a program of {info.st_uid}:{info.st_gid}, mode was {stat.S_IMODE(info.st_mode):04o}"


@dataclass(frozen=True)
class _Mount:
    """A mount on which programs can be setuid, of a kind that answers."""

    number: int
    path: str


def _mounts() -> list[_Mount]:
    return [
        _Mount(int(number), seen.path)
        for number, _above, seen in mountinfo.each(mounts.listed())
        if "nosuid" not in seen.options and seen.fstype.startswith(_KINDS) and not _is_apart(seen.path)
    ]


def _search(ids: Ids, root: str) -> list[str]:
    done: list[str] = []
    with descriptors() as held:
        for mount in [_Mount(-1, root)] if root != "/" else _mounts():
            done += _search_mount(ids, mount, held)
    return done


def _search_mount(ids: Ids, mount: _Mount, held: int) -> list[str]:
    done: list[str] = []
    try:
        place = os.open(mount.path, _PLACE)
    except OSError:  # beneath another one, or in a place that was unmounted meanwhile
        return done
    try:
        covered = mount.number not in (-1, mount_of(place))
        if covered or not stat.S_ISDIR(os.fstat(place).st_mode):
            return done
        for _pass in range(_PASSES):
            search = _Search(mount.path, os.open(".", LIST, dir_fd=place), held, ids)
            search.go()
            done += search.done
            if search.complete:
                return done[:_TOLD] + [f"{len(done) - _TOLD} more below {shown(mount.path)}"] * (len(done) > _TOLD)
    finally:
        os.close(place)
    movers = ", ".join(f"uid {owner}" for owner in sorted(search.lost | search.endless))
    what = f"directories of {movers} below {shown(mount.path)} are moved or made while what is setuid is looked for"
    raise GpusteadError(what, "nobody to change them", "End what does, then run again.")


def _is_apart(path: str) -> bool:
    """Whether the way there is root's alone."""
    parts = path.split("/")
    try:
        way = ["/".join(parts[:length]) or "/" for length in range(1, len(parts))]
        return any(_is_roots(os.lstat(above), above) for above in way)
    except OSError:  # beneath another mount
        return True


def _is_roots(info: os.stat_result, where: str | int) -> bool:
    """Whether only root comes into a directory: nobody can start what is in there."""
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0 or info.st_mode & stat.S_IXOTH:
        return False
    # What an ACL allows at most stands in the place of the group's permissions.
    return not info.st_mode & stat.S_IXGRP or (info.st_gid == 0 and not _has_acl(where))


def _has_acl(where: str | int) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(where)
    except OSError:  # there are none on this file system
        return False


class _Search(Walk):
    def __init__(self, root: str, top: int, held: int, ids: Ids) -> None:
        super().__init__(root, top, held)
        self.ids, self.done = ids, list[str]()

    def passes_by(self, info: os.stat_result) -> bool:
        return _is_roots(info, self.stack[-1].directory)

    def worth(self, directory: int, name: str) -> bool:
        try:
            return bool(self.ids.bits(os.stat(name, dir_fd=directory, follow_symlinks=False)))
        except OSError:  # gone, or an account's own file system, on which nothing is setuid
            return False

    def visit(self, place: int, info: os.stat_result, name: str) -> None:
        if self.ids.bits(info):
            try:
                self.done.append(f"{self.path(name)}: {_made_harmless(place, info, self.ids)}")
            except OSError as error:
                raise self.failed(error, name) from error

    def failed(self, error: OSError, name: str) -> GpusteadError:
        what = f"{self.path(name)} cannot be looked at, or kept from being setuid: {error.strerror}"
        remedy = "Remove what is setuid for an id that is handed on (find / -perm /6000 -uid ID), then run again."
        return GpusteadError(what, "nothing of who had the id before", remedy)
