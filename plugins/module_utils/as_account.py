# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one way in which root touches what is not root's: as the account it belongs to, within limits.

What lies below a home, on the share, in a place of an account's, or comes out of a container, was made by somebody who
may want root to read, write or wait in their stead. So the work is done in a child with the account's ids, which cannot
do more than the account can, which is killed when it takes too long or says too much, and which reaches files through
descriptors: no step of a path may be a link, and only regular files are read.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import functools
import json
import os
import resource
import secrets
import select
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Callable, NoReturn

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# prctl(2), linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LIBC = ctypes.CDLL(None, use_errno=True)

# Never a terminal, never for a child's program, and without waiting for who opens the other end of a FIFO.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NOBODYS = (1 << 32) - 1
_LAST = b"\n"  # nothing in an answer of JSON


@dataclass(frozen=True)
class Identity:
    """Whose ids a child takes; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def run(
    work: Callable[[], Any],
    who: Identity,
    *,
    timeout: float = 60,
    size: int = 1 << 20,
    memory: int = 256 << 20,
    place: str = "what was asked",
) -> Any:
    """Do the work in a child that is `who` and nothing more.

    Args:
        work: returns what JSON can say. It changes nothing in our memory, and imports nothing: where the program
            itself lies may be closed to the account.
        who: whose ids; where we are not root they must be our own.
        timeout: seconds until the child is killed. One that hangs in the kernel is left behind.
        size: longest answer, in bytes of JSON.
        memory: bytes that the child may take on top of what the process has.
        place: what is touched, for messages.

    Raises:
        GpusteadError: the work's own, or it failed, took too long, too much memory, or said too much.
        PermissionError: the account may not; with the work's errno, text and file name.
    """
    refused = [number for number in (who.uid, who.gid, *who.groups) if not 0 <= number < _NOBODYS]
    if refused:  # -1 is "as it is" for the kernel: the work would be root's
        raise GpusteadError(f"id {refused[0]} of {who}", f"one from 0 to {_NOBODYS - 1}", "Correct the account's ids.")
    take_ids = functools.partial(become, who, timeout, memory, os.getpid())
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        what = f"no process can be started to look at {place}: {error.strerror}"
        raise GpusteadError(what, "one", "See what takes the processes or the memory of this host.") from error
    if child == 0:
        try:
            os.close(reader)
            _live(work, take_ids, writer)
        finally:
            os._exit(1)
    os.close(writer)
    try:
        answer = _listen(reader, time.monotonic() + timeout, size, who, place)
    finally:
        os.close(reader)
        _end(child)
    return _judge(answer, who, place)


def _live(work: Callable[[], Any], take_ids: Callable[[], None], writer: int) -> NoReturn:
    """The child's life: become the account, work, write the outcome into the pipe, end."""
    _report(writer, take_ids, "failed")
    _report(writer, lambda: {"said": work()}, "denied")
    os._exit(0)


def _report(writer: int, part: Callable[[], dict[str, Any] | None], not_allowed: str) -> None:
    """Do a part of the life; its answer, or what it ended with, is the last thing that the child says.

    `not_allowed`: how it is said that the account may not. That we could not become it must not be taken for that: who
    asked would try as root.
    """
    try:
        answer = part()
        if answer is None:
            return
        said = json.dumps(answer)
    except GpusteadError as error:
        said = json.dumps({"error": [error.what, error.expected, error.remedy]})
    except OSError as error:
        if isinstance(error, PermissionError) and not_allowed == "denied":
            said = json.dumps({"denied": [error.errno, error.strerror or str(error), _name(error.filename)]})
        else:
            said = json.dumps({"failed": f"{error.strerror or error}{_at(error.filename)}", "errno": error.errno})
    except (MemoryError, RecursionError) as error:
        said = json.dumps({"failed": f"it takes more memory or depth than allowed ({type(error).__name__})"})
    except Exception as error:
        said = json.dumps({"failed": f"{type(error).__name__}: {error}"})
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(said.encode() + _LAST)
    os._exit(0)


def become(who: Identity, timeout: float, memory: int, parent: int) -> None:
    """Give away what root has, in an order in which nothing can be taken back. For a forked child alone.

    Args:
        who: whose ids; where we are not root they must be our own.
        timeout: seconds of computing after which the kernel kills.
        memory: bytes that may be taken on top of what the process has.
        parent: the process that has forked this one, which ends with it.

    Raises:
        GpusteadError: we are neither root nor `who`.
        OSError: the system refuses.
    """
    os.setsid()  # away from the terminal, and a group of its own that can be killed
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):  # an SSH session lasts as long as somebody holds these
        os.dup2(null, fd)
    with open("/proc/self/statm", "rb") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    _prctl(_PR_SET_DUMPABLE, 0)
    if os.geteuid() == 0:
        os.setgroups(list(who.groups))
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    if (os.getresuid(), os.getresgid()) != ((who.uid,) * 3, (who.gid,) * 3):
        raise GpusteadError(f"this runs as uid {os.geteuid()}", f"root, or {who}", "Use become: true.")
    # The account may signal the child, as it may all that runs in its name; it must not look into root's memory.
    _prctl(_PR_SET_DUMPABLE, 0)  # the kernel has set it anew with the ids
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended meanwhile, and nobody would hear of it
        os._exit(1)
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_AS, taken + memory)
    _limit(resource.RLIMIT_CPU, int(timeout) + 1)


def _limit(what: int, value: int) -> None:
    """A limit that stands may be lower already: it is not raised."""
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def _listen(reader: int, deadline: float, size: int, who: Identity, place: str) -> bytes:
    """The answer, without its last byte. Not up to the end of the pipe: a child forked by another thread holds it."""
    answer = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while not answer.endswith(_LAST):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            what = f"{place} did not answer uid {who.uid} in time"
            raise GpusteadError(what, "an answer", "See what hangs there: a share that is away, or no regular file.")
        part = os.read(reader, 1 << 16)
        if not part:
            return b""  # it was killed
        answer += part
        if len(answer) > size:
            raise GpusteadError(f"{place} holds more than {size} bytes", "less", "Look at what lies there.")
    return bytes(answer[: -len(_LAST)])


def _end(child: int) -> None:
    """Kill the child and what it started, and wait a moment; who hangs in the kernel is left to init."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):  # it has ended, or has no group of its own yet
            kill(child, signal.SIGKILL)
    pause = 0.0002
    with contextlib.suppress(ChildProcessError):  # somebody reaps them for us
        while pause < 0.2 and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(pause)
            pause *= 1.5


def _judge(answer: bytes, who: Identity, place: str) -> Any:
    """What the work returned, or the error that it ended with."""
    said: Any
    try:
        said = json.loads(answer) if answer else {"failed": "the process that looked at it was killed"}
    except (ValueError, RecursionError):
        said = {"failed": "it is nested too deeply, or the process that looked at it was killed"}
    if "denied" in said:
        code, text, name = said["denied"]
        raise PermissionError(code or errno.EACCES, text, name or None)
    if "error" in said:
        raise GpusteadError(*said["error"])
    if "failed" in said:
        raise GpusteadError(f"{place}, as uid {who.uid}: {said['failed']}", "it to work", _remedy(said.get("errno")))
    return said["said"]


def _remedy(code: int | None) -> str:
    remedies = {
        errno.ENOSPC: "The file system is full: make room there.",
        errno.EDQUOT: "The account's quota is used up: make room, or raise it.",
        errno.EROFS: "It is mounted read-only: see why, and mount it anew.",
        errno.ESTALE: "The share was exported anew: mount it again.",
        errno.ENAMETOOLONG: "Give it a shorter name.",
        errno.EAGAIN: "A process of the account's has a lease on it (/proc/locks): end that, then run again.",
    }
    return remedies.get(code or 0, "Look at what lies there, and at the mount.")


def _name(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""


def _at(name: object) -> str:
    return f" ({_name(name)})" if _name(name) else ""


# Within the work: files through descriptors.


def steps(relative: str) -> tuple[str, ...]:
    """The names of a path below a directory; raises GpusteadError for one that leads elsewhere."""
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise GpusteadError(f"path {relative!r}", "a path below the directory, without '..'", "Correct it.")
    return parts


@contextlib.contextmanager
def parent(top: str | int, relative: str) -> Iterator[tuple[int, str]]:
    """The open directory in which `relative` lies, and its last name. No step on the way may be a link.

    `top` itself is not the account's: a path that only root can change, or an open directory.

    Raises:
        GpusteadError: a link, or no directory, on the way; named.
        OSError: a step is not there, or not allowed.
    """
    *way, last = steps(relative)
    at = os.dup(top) if isinstance(top, int) else os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    seen = "" if isinstance(top, int) else str(top)
    try:
        for name in way:
            seen = f"{seen}/{name}" if seen else name
            try:
                inner = os.open(name, _STEP, dir_fd=at)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise _link(seen, "directory") from error
                error.filename = seen
                raise
            os.close(at)
            at = inner
        yield at, last
    finally:
        os.close(at)


def open_beneath(top: str | int, relative: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of what lies at `relative`, never through a link; raises as `parent` does."""
    with parent(top, relative) as (directory, name):
        try:
            return os.open(name, flags | _SAFELY, mode, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and flags & os.O_DIRECTORY):
                raise _link(os.path.join(str(top), relative), "file") from error
            error.filename = os.path.join(str(top), relative)
            raise


def _link(path: str, expected: str) -> GpusteadError:
    remedy = "Move it out of the way: a link could lead anywhere."
    return GpusteadError(f"{path} is a symbolic link or no {expected}", f"a {expected}", remedy)


def regular(file: int, name: str, owner: int | None = None, another: str = "") -> os.stat_result:
    """The status of an open regular file; with `owner`, one that is this account's alone.

    Args:
        another: the remedy where it is another's.

    Raises:
        GpusteadError: a FIFO, a device, a directory …; somebody else's; or it has a second name somewhere.
    """
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise GpusteadError(f"{name} is no regular file", "a regular file", "Move it out of the way.")
    if owner is not None and status.st_uid != owner:
        remedy = another or "Give it to its owner, or move it out of the way."
        raise GpusteadError(f"{name} belongs to uid {status.st_uid}", f"uid {owner}", remedy)
    if owner is not None and status.st_nlink != 1:
        raise GpusteadError(f"{name} has {status.st_nlink} names (hard links)", "one", "Remove the others, or it.")
    return status


def contents(file: int, name: str, size: int) -> bytes:
    """What an open regular file holds, up to a limit in bytes; raises GpusteadError beyond it."""
    data = b""
    while len(data) <= size:
        part = os.read(file, min(1 << 20, size + 1 - len(data)))
        if not part:
            return data
        data += part
    raise GpusteadError(f"{name} is longer than {size} bytes", "less", "Look at what wrote it; move it out of the way.")


def draft(name: str) -> str:
    """How the name of a temporary file of `put` begins; 12 hex digits and `.tmp` follow. A killed one leaves it."""
    return f".{os.fsdecode(os.fsencode(name)[:200])}."  # names are limited in bytes


def put(
    directory: int,
    name: str,
    data: bytes,
    mode: int,
    *,
    owner: tuple[int, int] | None = None,
    exclusive: bool = False,
) -> None:
    """Replace a file of an open directory as a whole; a temporary one never stays. Raises OSError.

    Args:
        mode: its permission bits.
        owner: uid and gid that it is given to, before it is in its place.
        exclusive: do not replace: raises FileExistsError where something is.
    """
    temporary = f"{draft(name)}{secrets.token_hex(6)}.tmp"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=directory)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            if owner is not None:
                os.fchown(file, *owner)
            os.fchmod(file, mode)
            os.fsync(file)
        if exclusive:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            os.unlink(temporary, dir_fd=directory)
        else:
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise


# From outside: one file, read as an account.


def read(
    top: str,
    relative: str,
    who: Identity,
    *,
    size: int = 1 << 20,
    timeout: float = 20,
    owner: int | None = None,
    another: str = "",
) -> bytes | None:
    """What a regular file below `top` holds, as `who` may see it; None where nothing is.

    Args:
        top: a directory whose path only root can change.
        relative: the file, below it; no step may be a link.
        size: longest content, in bytes.
        timeout: seconds.
        owner: uid that must own it, alone.
        another: the remedy where it is another's, or closed to `who`.

    Raises:
        GpusteadError: all that can be wrong with it, an account that may not read it included.
    """
    path = os.path.join(top, relative)

    def work() -> str | None:
        try:
            file = open_beneath(top, relative)
        except FileNotFoundError:
            return None
        try:
            regular(file, path, owner, another)
            return base64.b64encode(contents(file, path, size)).decode()
        finally:
            os.close(file)

    try:
        said = run(work, who, timeout=timeout, size=2 * size + 4096, memory=(64 << 20) + 4 * size, place=path)
    except PermissionError as error:
        remedy = another or f"Let uid {who.uid} read it."
        raise GpusteadError(f"{path} cannot be read by uid {who.uid}: {error.strerror}", "it to be", remedy) from error
    return None if said is None else base64.b64decode(said)
