# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What processes have open, looked through within a time: an account may have millions of files open, and threads that
each show all of them once more, come and go."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# linux/kcmp.h; arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h
_KCMP = 312 if os.uname().machine == "x86_64" else 272
_FILES, _DIRECTORIES = 2, 3
_EACH = 256  # links from one look at the clock to the next
_LIBC = ctypes.CDLL(None, use_errno=True)


class OutOfTime(Exception):
    """There is more than can be looked through; its text names the process that has most of it."""


@dataclass
class Patience:
    """The seconds for a look at all processes, and which of them had most to look at."""

    seconds: float
    pid: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    def count(self, pid: int, number: int) -> None:
        """Note that a process has had so many links; raises OutOfTime."""
        if number > self.most:
            self.pid, self.most = pid, number
        if number % _EACH == 0 and time.monotonic() > self._end:
            raise OutOfTime(f"process {self.pid}, with {self.most} or more, has too many files open to look through")


def numbers(proc: Path = Path("/proc")) -> list[int]:
    """Those that run."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())


def uids(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Real, effective, saved and that of the file system. Raises OSError where it has ended."""
    lines = (proc / str(pid) / "status").read_bytes().split(b"\n")
    return [int(uid) for line in lines if line.startswith(b"Uid:") for uid in line.split()[1:]]


def files(pid: int, patience: Patience, proc: Path = Path("/proc")) -> Iterator[str]:
    """The links to the open files of a process, of each thread that does not share those of the one before: the first
    may have ended while others go on. Raises OSError where all have, and OutOfTime."""
    yield from _counted(pid, patience, _of_threads(f"{proc}/{pid}"))


def held(pid: int, patience: Patience) -> Iterator[str]:
    """The links of all its threads to their directories, program and open files; of those that share all of these,
    of one. Raises as `files` does."""
    yield from _counted(pid, patience, _held(pid))


def holds_files(link: str) -> bool:
    """Whether files were sent to a socket and not taken: nobody can look at these. Raises OSError."""
    with open(link.replace("/fd/", "/fdinfo/"), "rb") as about:
        return any(line.startswith(b"scm_fds:") and int(line.split()[1]) > 0 for line in about)


def _counted(pid: int, patience: Patience, links: Iterator[str]) -> Iterator[str]:
    number = 0
    patience.count(pid, number)
    for number, link in enumerate(links, 1):
        patience.count(pid, number)
        yield link


def _of_threads(place: str) -> Iterator[str]:
    for thread in _threads(place, _FILES):
        with contextlib.suppress(OSError):
            yield from _files(thread)


def _held(pid: int) -> Iterator[str]:
    for thread in _threads(f"/proc/{pid}", _FILES, _DIRECTORIES):
        yield from (f"{thread}/{name}" for name in ("cwd", "root", "exe"))
        # A thread that has ended takes none of the others with it.
        with contextlib.suppress(OSError):
            yield from _files(thread)


def _threads(place: str, *shared: int) -> Iterator[str]:
    """The places of those that do not share all of this with the one before."""
    before = 0
    for task in sorted(map(int, os.listdir(f"{place}/task"))):
        if not before or not all(_same(before, task, what) for what in shared):
            before = task
            yield f"{place}/task/{task}"


def _files(place: str) -> Iterator[str]:
    with os.scandir(f"{place}/fd") as entries:
        for entry in entries:
            yield entry.path


def _same(one: int, other: int, what: int) -> bool:
    """Whether two threads share something. Where the kernel does not say, they do not."""
    return int(_LIBC.syscall(_KCMP, one, other, what, 0, 0)) == 0
