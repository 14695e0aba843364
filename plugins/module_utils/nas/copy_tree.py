# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A tree of many accounts, copied to a share and compared with what lies there.

Root reads the original, through descriptors and without a link. On the share each entry is made, and read again, with
the ids of its owner: on an export with root squashing root may do neither. For a process of its own, as it changes the
ids of the process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, TypeVar

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import Refusal

T = TypeVar("T")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_ZERO = bytes(_CHUNK)
_ATTRIBUTES = ("user.", "system.posix_acl_")
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOSPC)
LAYOUT = ".cluster"
_FATAL = (errno.ENOSPC, errno.ESTALE, errno.ENOTCONN, errno.EROFS)  # of the share as a whole
_NAMED = 50  # of what is left so many are named


@dataclass
class Outcome:
    """What a walk has done or found.

    Attributes:
        entries, size: files, links and directories that were looked at, and bytes of the files.
        copied: entries that were made or written anew.
        left: the first of those that are not on the share as they are here; `left_count` is how many they are.
        special: sockets, FIFOs and devices, which hold nothing to copy.
        lost: entries whose ACLs or attributes the share does not take.
        extra: in a comparison, entries of the directories that are on the share alone.
    """

    entries: int = 0
    size: int = 0
    copied: int = 0
    left: list[Refusal] = field(default_factory=list)
    left_count: int = 0
    special: int = 0
    lost: int = 0
    extra: int = 0


@dataclass
class _FolderPair:
    """A directory on the way: descriptors of the original and of its copy, and the names that are still to come."""

    source: int
    target: int
    path: str
    status: os.stat_result
    names: list[str]

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class _LeftError(Exception):
    """Why an entry is not copied, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


_BY_ROOT = (
    "Give it to the owner of the directory that it is in (chown -h), or have the share exported with no_root_squash to"
    " this node while it is moved."
)

_BY_QUOTA = "Give its owner a higher quota on the share (nas_quota, or quota of the account), then run again."


def copy(source: str, target: str) -> Outcome:
    """Make all that lies below a directory below another one, as its owners. What is there already and has the size and
    the time of the original stays; nothing is removed.

    Args:
        source, target: directories whose paths only root can change.
    """
    return _Walk(source, target, check=False).run()


def compare(source: str, target: str) -> Outcome:
    """Read both, and name in `left` what is not the same: kind, owner, permissions, where a link leads, and of files
    the SHA-256 of their contents. Nothing is changed."""
    return _Walk(source, target, check=True).run()


class _Walk:
    def __init__(self, source: str, target: str, check: bool) -> None:
        self.source, self.target, self.check = source, target, check
        self.outcome = Outcome()
        self.links: dict[int, str] = {}  # of files with several names, the first that was copied

    def run(self) -> Outcome:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))  # each level of depth takes two
        before = os.umask(0)
        top = os.open(self.source, _FOLDER)
        self.root = os.open(self.target, _FOLDER)
        self.device = os.fstat(top).st_dev
        stack = [_FolderPair(top, os.dup(self.root), "", os.fstat(top), os.listdir(top))]
        try:
            while stack:
                level = stack[-1]
                if level.names:
                    name = level.names.pop()
                    path = f"{level.path}/{name}" if level.path else name
                    inner = self._try(path, partial(self._entry, level, name, path))
                    stack += [inner] if inner else []
                    continue
                if level.path and not self.check:
                    self._try(level.path, partial(self._finish, level))
                stack.pop().close()
        finally:
            for level in stack:
                level.close()
            os.close(self.root)
            os.umask(before)
        return self.outcome

    def _try(self, path: str, work: Callable[[], T]) -> T | None:
        """Do it; what is in the way is named, and keeps nothing else from being done."""
        try:
            return work()
        except _LeftError as error:
            self._leave(path, error.what, error.remedy)
        except FileNotFoundError:
            self._leave(path, "is gone, here or on the share", "Run again.")
        except OSError as error:
            if error.errno in _FATAL:
                error.filename = path
                raise
            remedy = _BY_QUOTA if error.errno == errno.EDQUOT else _BY_ROOT
            self._leave(path, f"cannot be copied or read ({error.strerror})", remedy)
        return None

    def _leave(self, path: str, what: str, remedy: str) -> None:
        self.outcome.left_count += 1
        if len(self.outcome.left) < _NAMED:
            self.outcome.left.append(Refusal(path, what, "the same on the share", remedy))

    def _entry(self, level: _FolderPair, name: str, path: str) -> _FolderPair | None:
        """Copy or compare an entry; a directory is returned, for what is in it."""
        status = os.stat(name, dir_fd=level.source, follow_symlinks=False)
        inner: _FolderPair | None = None
        if stat.S_ISDIR(status.st_mode):
            inner = self._directory(level, name, path)
        elif stat.S_ISREG(status.st_mode):
            self._file(level, name, path, status)
        elif stat.S_ISLNK(status.st_mode):
            self._link(level, name, status)
        else:
            self.outcome.special += 1
            return None
        self.outcome.entries += 1
        return inner

    # Directories

    def _directory(self, level: _FolderPair, name: str, path: str) -> _FolderPair:
        source = os.open(name, _FOLDER, dir_fd=level.source)
        try:
            status = os.fstat(source)
            if status.st_dev != self.device:
                raise _LeftError("is a mount of its own", "Unmount it, and move what is on it by hand.")
            names = os.listdir(source)
            made, target = self._as_owner(status, level, partial(self._folder, level, name, status, names))
            self.outcome.copied += made
            return _FolderPair(source, target, path, status, names)
        except BaseException:
            os.close(source)
            raise

    def _folder(
        self, level: _FolderPair, name: str, status: os.stat_result, names: Iterable[str], as_root: bool
    ) -> tuple[bool, int]:
        """Have a directory on the share, in which its owner can write until it is finished, and open it."""
        made = False
        if not self.check:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=level.target)
                made = True
                self._give(name, level, status, as_root)
        there = os.stat(name, dir_fd=level.target, follow_symlinks=False)
        self._hold(there, status)
        mode = stat.S_IMODE(there.st_mode)
        if not self.check and mode & 0o700 != 0o700:
            _set_mode(level.target, name, mode | 0o700)
        target = os.open(name, _FOLDER, dir_fd=level.target)
        self.outcome.extra += len({*os.listdir(target)} - {*names}) if self.check else 0
        return made, target

    def _finish(self, level: _FolderPair) -> None:
        self._as_owner(level.status, level, lambda _as_root: self._attributes(level.source, level.target, level.status))

    # Files

    def _file(self, level: _FolderPair, name: str, path: str, status: os.stat_result) -> None:
        source = os.open(name, _FILE, dir_fd=level.source)
        try:
            status = os.fstat(source)
            first = self.links.get(status.st_ino, "")
            if first and not self.check:
                self._as_owner(status, level, lambda _as_root: self._name(level, name, first))
            else:
                self._as_owner(status, level, partial(self._content, level, name, path, source))
            if status.st_nlink > 1:
                self.links.setdefault(status.st_ino, path)
        finally:
            os.close(source)
        self.outcome.size += status.st_size

    def _content(self, level: _FolderPair, name: str, path: str, source: int, as_root: bool) -> None:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise _LeftError("was exchanged meanwhile", "Run again.")
        there = self._there(level, name)
        if self.check:
            self._same_content(level, name, source, status, there)
            return
        if there:
            self._hold(there, status)
            if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                if stat.S_IMODE(there.st_mode) != stat.S_IMODE(status.st_mode):
                    _set_mode(level.target, name, stat.S_IMODE(status.st_mode))
                return
            # What the cluster keeps for itself another node may have begun anew there; it is made again by its roles.
            if there.st_mtime_ns > status.st_mtime_ns and not path.startswith(f"{LAYOUT}/"):
                raise _LeftError("is newer on the share", "See which of them is wanted, and move the other away.")
        temporary = f".gpustead-move.{status.st_uid}"
        with contextlib.suppress(FileNotFoundError):  # of a run that was killed
            os.unlink(temporary, dir_fd=level.target)
        target = os.open(temporary, _NEW, 0o600, dir_fd=level.target)
        try:
            _transfer(source, target, status.st_size)
            after = os.fstat(source)
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise _LeftError("was written while it was copied", "Run again when nobody writes.")
            if as_root:
                os.fchown(target, status.st_uid, status.st_gid)
            self._attributes(source, target, status)
            os.fsync(target)
            os.rename(temporary, name, src_dir_fd=level.target, dst_dir_fd=level.target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=level.target)
            raise
        finally:
            os.close(target)
        self.outcome.copied += 1

    def _name(self, level: _FolderPair, name: str, first: str) -> None:
        """A further name for a file that was copied already."""
        there = self._there(level, name)
        if there is None:
            os.link(first, name, src_dir_fd=self.root, dst_dir_fd=level.target, follow_symlinks=False)
            self.outcome.copied += 1
        elif there.st_ino != os.stat(first, dir_fd=self.root, follow_symlinks=False).st_ino:
            raise _LeftError("is another file on the share", "See which of them is wanted, and move the other away.")

    def _same_content(
        self, level: _FolderPair, name: str, source: int, status: os.stat_result, there: os.stat_result | None
    ) -> None:
        if there is None:
            raise _LeftError("is not on the share", "Run again.")
        self._hold(there, status)
        target = os.open(name, _FILE, dir_fd=level.target)
        try:
            same = status.st_size == there.st_size and _digest(source) == _digest(target)
        finally:
            os.close(target)
        if not same:
            raise _LeftError("has another content on the share", "Run again; if it stays so, look at the share.")

    # Links

    def _link(self, level: _FolderPair, name: str, status: os.stat_result) -> None:
        leads = os.readlink(name, dir_fd=level.source)

        def work(as_root: bool) -> bool:
            there = self._there(level, name)
            if there is None and not self.check:
                os.symlink(leads, name, dir_fd=level.target)
                self._give(name, level, status, as_root)
                times = (status.st_atime_ns, status.st_mtime_ns)
                os.utime(name, ns=times, dir_fd=level.target, follow_symlinks=False)
                return True
            if there is None or not stat.S_ISLNK(there.st_mode) or os.readlink(name, dir_fd=level.target) != leads:
                raise _LeftError(
                    f"does not lead to {leads} on the share", "See which is wanted, and move the other away."
                )
            return False

        self.outcome.copied += self._as_owner(status, level, work)

    # Of all kinds

    def _there(self, level: _FolderPair, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=level.target, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _hold(self, there: os.stat_result, status: os.stat_result) -> None:
        """Refuse what is another thing than the original, or another's."""
        if stat.S_IFMT(there.st_mode) != stat.S_IFMT(status.st_mode):
            raise _LeftError("is something else on the share", "See what lies there, and move it away.")
        if there.st_uid != status.st_uid:
            raise _LeftError(f"belongs to uid {there.st_uid} on the share, here to {status.st_uid}", _BY_ROOT)
        if self.check:
            mine, its = ((one.st_gid, stat.S_IMODE(one.st_mode)) for one in (status, there))
            if mine != its:
                what = f"has group {its[0]} and mode {its[1]:04o} on the share, here {mine[0]} and {mine[1]:04o}"
                raise _LeftError(what, "Run again; if it stays so, look at what the share makes of groups and modes.")

    def _give(self, name: str, level: _FolderPair, status: os.stat_result, as_root: bool) -> None:
        owner = status.st_uid if as_root else -1
        os.chown(name, owner, status.st_gid, dir_fd=level.target, follow_symlinks=False)

    def _attributes(self, source: int, target: int, status: os.stat_result) -> None:
        """Group, permissions, ACLs and time, in an order in which none undoes the one before."""
        if os.fstat(target).st_gid != status.st_gid:
            os.fchown(target, -1, status.st_gid)
        if stat.S_IMODE(os.fstat(target).st_mode) != stat.S_IMODE(status.st_mode):
            os.fchmod(target, stat.S_IMODE(status.st_mode))
        try:
            for name in os.listxattr(source):
                if name.startswith(_ATTRIBUTES):
                    os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.outcome.lost += 1
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _as_owner(self, status: os.stat_result, level: _FolderPair, work: Callable[[bool], T]) -> T:
        """Work on the share as the owner, with the groups of the entry and of the directory above alone; as root where
        the owner may not and root may."""
        groups = {status.st_gid, level.status.st_gid if level.path else os.fstat(level.target).st_gid}
        try:
            with _acting(status.st_uid, status.st_gid, groups):
                return work(False)
        except PermissionError:
            if status.st_uid == 0:
                raise
            return work(True)


@contextlib.contextmanager
def _acting(uid: int, gid: int, groups: Iterable[int]) -> Iterator[None]:
    """Be somebody for the file system. Root's real ids stay: no account may signal this process or look into it."""
    before = os.getgroups()
    os.setgroups([*groups])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def _set_mode(folder: int, name: str, mode: int) -> None:
    """Of what is there itself: others may put a link in its place, and root may do the work."""
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{held}", mode)
    finally:
        os.close(held)


def _transfer(source: int, target: int, size: int) -> None:
    """The contents; what is zero stays a hole."""
    while True:
        part = os.read(source, _CHUNK)
        if not part:
            break
        if part == _ZERO[: len(part)]:
            os.lseek(target, len(part), os.SEEK_CUR)
            continue
        while part:
            part = part[os.write(target, part) :]
    os.ftruncate(target, size)


def _digest(file: int) -> str:
    """Of what the server has, and not of what is remembered here."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    found = hashlib.sha256()
    while part := os.read(file, _CHUNK):
        found.update(part)
    return found.hexdigest()
