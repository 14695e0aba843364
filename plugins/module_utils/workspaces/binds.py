# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Places that containers see, each mounted once more below a directory that only root can change.

Docker follows links in what it binds, and an account may put one where its directory was. So each place is opened step
by step without a link, looked at, and what was opened is mounted, without setuid programs and devices. A container
binds that mount. Where a place is refused there is no mount and no directory, and Docker refuses to start.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import os
import pwd
import re
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts, processes

DIRECTORY = "/run/gpustead/binds"
DECLARED = "/etc/gpustead/binds.d"
VERSION = 1
WAIT = 60  # seconds for another run to end
_SEARCH = 10  # seconds to look through what processes have open
_LOOKING = 900  # seconds to look through a place that is covered for the first time
_IN_SOCKET = "open files on their way in a socket"
_COVERED = "covered"  # root's list of places that containers have written
_REMOTE = ("nfs", "fuse", "glusterfs", "ceph", "cifs", "smb", "9p", "lustre", "beegfs", "gpfs", "afs")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}\Z")
_PEOPLE = range(1000, 65534)  # below are the system's own, above is nobody
_ROOT = as_account.Identity(0, 0)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Bind:
    """One place.

    Attributes:
        name: its name below the directory of its set.
        root: a directory whose path only root can change: a mount point of a share, or /.
        path: the place, below `root`; no step of it may be a link.
        owner: uid that it must belong to; None for any.
        only_account: the only account of the host that it may belong to; what is no account's may be anybody's.
        mounted: whether something must be mounted on `root`.
        read_only: whether containers only read it.
        cover: whether the place itself loses setuid programs and devices: containers write there, and the host's
            accounts reach it.
        linked: whether files there have second names that are meant, as those of a brick of GlusterFS.
        never: paths that it must neither be nor be in, by whatever name.
        propagation: whether mounts that come later at the place are seen (slave), never (private), or are passed on
            among those that bind it (shared). They are never passed on to the host.
    """

    name: str
    root: str
    path: str
    owner: int | None = None
    only_account: int | None = None
    mounted: bool = False
    read_only: bool = False
    cover: bool = False
    linked: bool = False
    never: tuple[str, ...] = ()
    propagation: str = "slave"

    @property
    def source(self) -> str:
        return os.path.join(self.root, self.path)


@dataclass
class Outcome:
    """What was done, or would be.

    Attributes:
        changes: (name, before, after) in words.
        refused: what is not as it must be, each with `name`, `what`, `expected` and `remedy`.
        replaced: names of mounts that stand for another place than before.
        mounted: names of those that are there now. A refused one stays while what it shows is its owner's.
        kept: places that stay covered, although containers are not to write there any more.
    """

    changes: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    mounted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def parse(raw: Mapping[str, Any]) -> Bind:
    """A bind from a module's argument or root's file; raises GpusteadError for one that cannot be meant."""
    name, root, path = (str(raw.get(key) or "") for key in ("name", "root", "path"))
    if not _NAME.match(name):
        raise GpusteadError(f"name {name!r} of a bind", "letters, digits, '.', '_' and '-'", "Correct it.")
    if not root.startswith("/") or ".." in root.split("/"):
        raise GpusteadError(f"root {root!r} of bind {name}", "an absolute path without '..'", "Correct it.")
    as_account.steps(path)
    propagation = str(raw.get("propagation") or "slave")
    propagation = propagation[1:] if propagation[1:] in mounts.PROPAGATIONS else propagation
    if propagation not in mounts.PROPAGATIONS:
        raise GpusteadError(
            f"propagation {propagation!r} of bind {name}", f"one of {mounts.PROPAGATIONS}", "Correct it."
        )
    return Bind(
        name=name,
        root=root,
        path=path,
        owner=_uid(raw, "owner"),
        only_account=_uid(raw, "only_account"),
        mounted=bool(raw.get("mounted")),
        read_only=bool(raw.get("read_only")),
        cover=bool(raw.get("cover")),
        linked=bool(raw.get("linked")),
        never=tuple(str(one) for one in raw.get("never") or ()),
        propagation=propagation,
    )


def _uid(raw: Mapping[str, Any], key: str) -> int | None:
    return None if raw.get(key) is None else int(raw[key])


def _as_declared(bind: Bind, seen: Mapping[str, mounts.Mounted], target: str, place: int) -> bool:
    """Whether the mount, and all below it, has the flags."""
    wanted = {"nosuid", "nodev", *(["ro"] if bind.read_only else [])}
    below = [one for path, one in seen.items() if path == target or path.startswith(f"{target}/")]
    tags = " ".join(seen[target].tags)
    passes = ("shared:" in tags) == (bind.propagation == "shared")
    follows = bind.propagation != "private" or "master:" not in tags
    flags = os.fstatvfs(place).f_flag
    written = bind.read_only or flags & os.ST_RDONLY or "ro" not in seen[target].options
    covered = not bind.cover or mounts.is_harmless(flags)
    return bool(passes and follows and written and covered and all(wanted <= set(one.options) for one in below))


def _refuse_who_is_inside(place: str, sockets: bool = False) -> None:
    """Raise where somebody entered a place, or opened what is in it, before it was covered, or closed to all but root:
    they see it as it was.

    Root in a container would leave a program there that makes them root of the host.

    Args:
        place: its path.
        sockets: whether a process that has not yet taken files out of a socket counts, whatever these are.
    """
    found = _who_is_inside(place, sockets)
    for _again in range(5 if sockets else 0):
        if not found or any(path != _IN_SOCKET for _pid, _uid, path in found):
            break
        time.sleep(0.5)  # who only passes files on, soon has none left
        found = _who_is_inside(place, sockets)
    if found:
        some = ", ".join(f"{pid} of uid {uid} ({path})" for pid, uid, path in found[:5])
        what = f"processes have been in {place} since before containers were to write there: {some}"
        remedy = f"End them (kill {' '.join(str(pid) for pid, _second, _third in found[:20])}), then run again."
        raise GpusteadError(what, "nobody to be in there", remedy)


def _who_is_inside(place: str, sockets: bool) -> list[tuple[int, int, str]]:
    try:
        return sorted(_inside(os.fsencode(place), sockets))
    except processes.OutOfTime as error:
        remedy = "End that process, then run again."
        raise GpusteadError(f"{error}, for who is in {place} from before", "fewer", remedy) from None


def _inside(place: bytes, sockets: bool) -> Iterator[tuple[int, int, str]]:
    """(process, uid, path) of each that is not root's of the host."""
    host = os.stat("/proc/self/ns/mnt").st_ino
    with open("/proc/self/mountinfo", "rb") as file:
        ours = {int(line.split(b" ", 1)[0]) for line in file}  # in other namespaces the host's programs are nobody's
    patience = processes.Patience(_SEARCH)
    for pid in processes.numbers():
        with contextlib.suppress(OSError):  # it has ended
            uids = processes.uids(pid)
            if not any(uids) and os.stat(f"/proc/{pid}/ns/mnt").st_ino == host:
                continue
            # Threads may have directories and files of their own.
            links = processes.held(pid, patience)
            path = next(filter(None, (_seen(link, place, ours, sockets) for link in links)), "")
            if path:
                yield pid, max(uids), path


def _seen(link: str, place: bytes, ours: set[int], sockets: bool) -> str:
    """What a thread has of a place without the cover, by one of its links; empty where it has nothing.

    Its program counts as well: it can be started once more. What a socket holds that was sent and not taken, nobody can
    look at.
    """
    with contextlib.suppress(OSError):
        path = os.readlink(os.fsencode(link))
        if sockets and path.startswith(b"socket:") and processes.holds_files(link):
            return _IN_SOCKET
        if path == place or path.startswith(place + b"/"):
            held = os.open(link, os.O_PATH | os.O_CLOEXEC)
            try:
                if _mount_of(held) in ours and not mounts.is_harmless(os.fstatvfs(held).f_flag):
                    return os.fsdecode(path)
            finally:
                os.close(held)
    return ""


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


def _mounts_of(bind: Bind) -> list[str]:
    """The mounts of a place and below it that can be written."""
    seen = mounts.mounted()
    below = [one for path, one in seen.items() if path == bind.source or path.startswith(f"{bind.source}/")]
    return [one.path for one in below if not one.is_read_only]


def _thaw(bind: Bind) -> None:
    """Work of a child: let what is covered be written again, where that was interrupted."""
    found = mounts.mounted().get(bind.source)
    if found and "ro" in found.options and "ro" not in found.of_all:
        mounts.set_read_only(found.path, False)


def _examine(bind: Bind, place: int) -> None:
    """Look through a place that is covered for the first time, while nobody can change what is in it."""
    frozen = _mounts_of(bind)
    try:
        for path in frozen:
            mounts.set_read_only(path, True)
        _refuse_who_is_inside(bind.source, sockets=True)
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


def _mount_of(file: int) -> int:
    with open(f"/proc/self/fdinfo/{file}", "rb") as info:
        return next((int(line.split()[1]) for line in info if line.startswith(b"mnt_id:")), -1)


# A place


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
        if bind.mounted and (on is None or on.fstype == "autofs"):
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
        _owned(bind, os.fstat(at))
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
    missing = sorted(_awaited([bind]))
    if missing:
        what = f"nothing is mounted on {missing[0]}, as /etc/fstab has it"
        raise GpusteadError(what, f"what holds {bind.source}", f"Mount it (mount {missing[0]}).")


def _awaited(binds: Iterable[Bind], network: bool = True, table: str = "/etc/fstab") -> set[str]:
    """Mountpoints of fstab on the way to places of the host on which nothing is mounted yet.

    `network`: also of those that wait for a network.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        return set()
    found = {}
    for fields in lines:
        if len(fields) > 3 and fields[0][:1] != "#" and "noauto" not in fields[3].split(","):
            path = re.sub(r"\\([0-7]{3})", lambda one: chr(int(one[1], 8)), fields[1])
            found[path.rstrip("/")] = fields[2].startswith(_REMOTE) or "_netdev" in fields[3].split(",")
    seen = mounts.mounted()
    wanted = {path for path, remote in found.items() if path.startswith("/") and path not in seen and network >= remote}
    ways = [f"{bind.source}/" for bind in binds if bind.root == "/"]
    return {path for path in wanted if any(way.startswith(f"{path}/") for way in ways)}


def _await(binds: Sequence[Bind], network: bool, seconds: float = 100) -> None:
    """Wait until the disks of these places are mounted, or cannot be: with `nofail` a boot goes on without."""
    end = time.monotonic() + seconds
    for path in sorted(_awaited(binds, network)):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            left = max(1.0, end - time.monotonic())
            subprocess.run(["systemctl", "start", "--", path], stdin=subprocess.DEVNULL, check=False, timeout=left)


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


def _owned(bind: Bind, status: os.stat_result) -> None:
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


def _mount_place(bind: Bind, target: str, check: bool, known: bool = True) -> str:
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
            mounts.cover(place)
            os.close(place)
            place = open_place(bind)
            if not mounts.is_harmless(os.fstatvfs(place).f_flag):
                raise GpusteadError(f"{bind.source} was exchanged meanwhile", "it to stay", "See who does that.")
        if not known:
            _examine(bind, place)
        if same:
            return "same"
        if not bind.mounted and not bind.read_only:
            _refuse_who_is_inside(bind.source)
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


def _still_its_own(bind: Bind, target: str) -> bool:
    """Work of a child: whether what is mounted may stay although its place is refused."""
    if mounts.mounted()[target].holder:
        return False
    status = os.stat(target, follow_symlinks=False)
    try:
        _owned(bind, status)
    except GpusteadError:
        return False
    return bind.owner is not None


def _file_system(root: str) -> bool:
    """Work of a child."""
    return os.statvfs(root).f_bsize > 0


# All places of a set


@dataclass
class _Set:
    """A set while it is mounted.

    `silent`: roots that did not answer; `slow`: those of which a place did not; `covered`: places that were looked
    through when they were covered.
    """

    folder: str
    check: bool
    timeout: float
    covered: frozenset[str] = frozenset()
    silent: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    outcome: Outcome = field(default_factory=Outcome)

    def target(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def drop_undeclared(self, declared: set[str]) -> None:
        seen = mounts.mounted()
        there = set(os.listdir(self.folder)) if os.path.isdir(self.folder) else set()
        for name in sorted(there):
            target = self.target(name)
            if name not in declared:
                before = "a place that is not declared" if target in seen else "an empty directory"
                self.outcome.changes.append((name, before, ""))
            if not self.check and (name not in declared or target not in seen):
                mounts.detach(target)

    def mount(self, bind: Bind) -> None:
        target = self.target(bind.name)
        try:
            if bind.root in self.silent:
                raise GpusteadError(f"{bind.root} did not answer", "an answer", "Look at the NAS and its mount.")
            known = not bind.cover or bind.source in self.covered
            work = partial(_mount_place, bind, target, self.check, known)
            # Who keeps us waiting must not take the time of all others.
            timeout = self.timeout / 4 if bind.root in self.slow else self.timeout
            timeout = timeout if known else max(timeout, _LOOKING)
            state = as_account.run(work, _ROOT, timeout=timeout, place=bind.source)
        except PermissionError as denied:
            remedy = "Let root pass through the directories above it, or put back what was there."
            self.refuse(bind, GpusteadError(f"{bind.source} cannot be reached: {denied.strerror}", "it to be", remedy))
        except GpusteadError as error:
            self.refuse(bind, error)
        else:
            if state != "same":
                before = "another place, or with other flags" if state == "replaced" else ""
                self.outcome.changes.append((bind.name, before, bind.source))
            self.outcome.replaced += [bind.name] * (state == "replaced")

    def refuse(self, bind: Bind, error: GpusteadError) -> None:
        target = self.target(bind.name)
        self.outcome.refused.append(vars(Refusal.of(bind.name, error)))
        if "did not answer" in error.what:
            if bind.cover and bind.source not in self.covered and not self.check:
                with contextlib.suppress(GpusteadError, PermissionError):
                    as_account.run(partial(_thaw, bind), _ROOT, timeout=self.timeout, place=bind.source)
            self.slow.add(bind.root)
            if bind.root not in self.silent and not self.answers(bind.root):
                self.silent.add(bind.root)
        elif target in mounts.mounted() and not self.may_stay(bind, target):
            self.outcome.changes.append((bind.name, "what is no longer its owner's", ""))
            if not self.check:
                mounts.detach(target)

    def answers(self, root: str) -> bool:
        """Whether it is the place alone that does not; this asks the server, and nothing of what it has said before."""
        try:
            work = partial(_file_system, root)
            return bool(as_account.run(work, _ROOT, timeout=self.timeout / 4, place=root))
        except (GpusteadError, PermissionError):
            return False

    def may_stay(self, bind: Bind, target: str) -> bool:
        try:
            work = partial(_still_its_own, bind, target)
            return bool(as_account.run(work, _ROOT, timeout=self.timeout, place=target))
        except (GpusteadError, PermissionError):
            return False


def apply(
    name: str,
    binds: Sequence[Bind],
    check: bool = False,
    *,
    directory: str = DIRECTORY,
    declared: str = DECLARED,
    timeout: float = 20,
) -> Outcome:
    """Have exactly these places mounted for a set. What is refused is named, and stops none of the others.

    Args:
        name: of the set.
        binds: its places.
        check: whether to only look.
        directory: root's, on a file system of its own in memory; made where it is not there.
        declared: root's, with the list of what was covered.
        timeout: seconds for each place; a quarter for those that follow one that did not answer, and none where the
            root of them does not answer either.
    """
    if not _NAME.match(name):
        raise GpusteadError(f"set {name!r} of binds", "letters, digits, '.', '_' and '-'", "Correct it.")
    places = _Set(os.path.join(directory, name), check, timeout)
    with _locked(directory, check):
        places.covered = covered(declared)
        if not check:
            os.makedirs(places.folder, 0o700, exist_ok=True)
        places.drop_undeclared({bind.name for bind in binds})
        for bind in binds:
            places.mount(bind)
        seen = mounts.mounted()
        places.outcome.mounted = [bind.name for bind in binds if places.target(bind.name) in seen]
        refused = {one["name"] for one in places.outcome.refused}
        new = {bind.source for bind in binds if bind.cover and bind.name not in refused} - places.covered
        if new and not check:
            _write_covered(places.covered | new, declared)
        # One that is damaged is written anew by its own role; what it covers stays covered meanwhile.
        sets = read(declared, damaged=True)
        others = [bind for other, several in sets.items() if other != name for bind in several]
        left = kept([*binds, *others], declared)
        places.outcome.kept = [bind.source for bind in left]
        if not check:
            cover(left)
    return places.outcome


@contextlib.contextmanager
def _locked(directory: str, check: bool = False) -> Iterator[None]:
    """Alone at it, with the directory there: in memory, root's, and its mounts seen by nobody else's namespace."""
    above = os.path.dirname(directory)
    if check and not os.path.isdir(above):
        yield
        return
    os.makedirs(above, 0o755, exist_ok=True)
    lock = os.open(f"{directory}.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, f"{directory}.lock")
        if not check:
            os.makedirs(directory, 0o700, exist_ok=True)
            if directory not in mounts.mounted():
                mounts.mount_memory(directory)
        yield
    finally:
        os.close(lock)


def _take(lock: int, name: str) -> None:
    """Take the lock, within a time. It is the process's alone: a child that hangs in the kernel does not keep it."""
    end = time.monotonic() + WAIT
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() > end:
            remedy = f"See who has it (fuser -v {name}) and what that waits for, then run again."
            raise GpusteadError(f"{name} was held by another run for {WAIT} s", "it to end", remedy)
        time.sleep(0.1)


def release(directory: str = DIRECTORY, paths: Sequence[str] = (), check: bool = False) -> list[str]:
    """Let go of all places, or of those on the file systems that are mounted on `paths`; returns where they were.

    A mount that is kept keeps a share alive after it was unmounted. What was declared stays declared.
    """
    seen = mounts.mounted()
    devices = {seen[path].device for path in map(os.path.normpath, paths) if path in seen}
    gone: list[str] = []
    if directory not in seen:
        return gone
    targets = [path for path in seen if re.fullmatch(rf"{re.escape(directory)}/[^/]+/[^/]+", path)]
    with _locked(directory, check):
        for target in sorted(targets):
            if not paths or seen[target].device in devices:
                gone.append(target)
                if not check:
                    mounts.detach(target)
    return gone


def cover(binds: Iterable[Bind], timeout: float = 10) -> None:
    """Take setuid programs and devices from the places that must not have them, as far as they are there: early in a
    boot, before anybody could run what root has left there in a container. What is refused, `apply` names."""
    for bind in binds:
        if bind.cover:
            with contextlib.suppress(GpusteadError, PermissionError):
                as_account.run(partial(_cover_place, bind), _ROOT, timeout=timeout, place=bind.source)


def _cover_place(bind: Bind) -> None:
    """Work of a child."""
    place = open_place(bind)
    try:
        mounts.cover(place)
    finally:
        os.close(place)


# Root's files


def write(name: str, binds: Sequence[Bind], check: bool = False, *, declared: str = DECLARED) -> bool:
    """Declare a set for the next boot; returns whether it was another one. No binds: no file."""
    path = os.path.join(declared, f"{name}.json")
    text = json.dumps({"version": VERSION, "binds": [asdict(bind) for bind in binds]}, indent=1, sort_keys=True) + "\n"
    try:
        with open(path, encoding="utf-8") as file:
            before: str | None = file.read()
    except FileNotFoundError:
        before = None
    if before == (text if binds else None):
        return False
    if not check:
        os.makedirs(declared, 0o755, exist_ok=True)
        os.chmod(declared, 0o700)
        folder = os.open(declared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if binds:
                as_account.put(folder, f"{name}.json", text.encode(), 0o600)
            else:
                os.unlink(f"{name}.json", dir_fd=folder)
        finally:
            os.close(folder)
    return True


def covered(declared: str = DECLARED) -> frozenset[str]:
    """The places that containers were let write to. Setuid programs may lie there, so each is covered at every boot,
    declared or not, until somebody has looked and takes it off (`uncover`)."""
    try:
        with open(os.path.join(declared, _COVERED), encoding="utf-8") as file:
            return frozenset(json.load(file)["places"])
    except FileNotFoundError:
        return frozenset()
    except (ValueError, KeyError, TypeError) as error:
        what = f"{os.path.join(declared, _COVERED)} is damaged ({error})"
        raise GpusteadError(what, "a list of places", "Remove it, and run site.yml.") from error


def _write_covered(places: Iterable[str], declared: str) -> None:
    os.makedirs(declared, 0o700, exist_ok=True)
    folder = os.open(declared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        as_account.put(folder, _COVERED, (json.dumps({"places": sorted(places)}) + "\n").encode(), 0o600)
    finally:
        os.close(folder)


def kept(binds: Iterable[Bind], declared: str = DECLARED) -> list[Bind]:
    """Places that are covered although containers are not to write there any more."""
    left = covered(declared) - {bind.source for bind in binds if bind.cover}
    return [Bind("kept", "/", path.lstrip("/"), cover=True) for path in sorted(left)]


def uncover(path: str, declared: str = DECLARED) -> None:
    """Take a place off the list; its cover goes with the next boot. Raises GpusteadError where it is none of it."""
    there = covered(declared)
    if path not in there:
        raise GpusteadError(f"{path} is not kept covered", f"one of {', '.join(sorted(there)) or 'none'}", "Name one.")
    _write_covered(there - {path}, declared)


def read(declared: str = DECLARED, damaged: bool = False) -> dict[str, list[Bind]]:
    """All sets that are declared; raises GpusteadError for a damaged file, unless these are to be left out."""
    found: dict[str, list[Bind]] = {}
    for entry in sorted(os.listdir(declared)) if os.path.isdir(declared) else []:
        if not entry.endswith(".json"):
            continue
        path = os.path.join(declared, entry)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']!r}")
            found[entry[: -len(".json")]] = [parse(raw) for raw in document["binds"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if damaged:
                continue
            raise GpusteadError(f"{path} is damaged ({error})", "what its role wrote", "Run site.yml.") from error
    return found


def main(arguments: Sequence[str], directory: str = DIRECTORY, declared: str = DECLARED) -> int:
    """The program of the units: mount all that is declared, or cover it alone, or release all that is mounted; and of
    an administrator: let a place be as it is that containers have written."""
    parser = argparse.ArgumentParser(prog="gpustead-binds", description="Mount the places that containers see.")
    parser.add_argument("verb", choices=["mount", "cover", "release", "uncover"])
    parser.add_argument("place", nargs="?", default="")
    try:
        given = parser.parse_args(arguments)
        verb = given.verb
        if verb == "uncover":
            uncover(given.place, declared)
            return 0
        if verb == "release":
            release(directory)
            return 0
        sets = read(declared)
        everything = [place for places in sets.values() for place in places]
        if verb == "cover":
            everything = [place for place in (*everything, *kept(everything, declared)) if place.cover]
            ready = [place for place in everything if not _awaited([place])]
            cover(ready)
            _await(everything, network=False)
            cover(place for place in everything if place not in ready)
            return 0
        _await(everything, network=True)
        for name, places in sets.items():
            for refused in apply(name, places, directory=directory, declared=declared).refused:
                error = GpusteadError(refused["what"], refused["expected"], refused["remedy"])
                sys.stderr.write(f"{name}/{refused['name']}: {error}\n")
    except (GpusteadError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
