# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Processes of a run on one node: which they are, whether they reach the rendezvous, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "MESH_RUN_ID"
ESTABLISHED, SYN_SENT, LISTEN = "01", "02", "0A"
_PROC = Path("/proc")
_TERM, _KILL = 5.0, 10.0  # seconds


def descendants(root: int) -> set[int]:
    """All that a process has started, and what these have; not itself. What is a zombie is none."""
    parents = {pid: parent for pid, state, parent in _all() if state not in "ZX"}
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive() -> set[int]:
    """All that this account sees; no zombies."""
    return {pid for pid, state, _parent in _all() if state not in "ZX"}


def owners() -> set[int]:
    """Uids of all these."""
    found: set[int] = set()
    for pid in alive():
        with contextlib.suppress(OSError):
            found.add((_PROC / str(pid)).stat().st_uid)
    return found


def _all() -> Iterator[tuple[int, str, int]]:
    """Each with its state and its parent."""
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, parent = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                yield int(entry.name), state, int(parent)


def of_run(run: str) -> set[int]:
    """One's own processes of a run, or of its part on a node (`<run>.<number>`): by their mark."""
    return {pid for pid, mark in _marked() if mark == run or mark.startswith(f"{run}.")}


def runs() -> set[str]:
    """The runs of which there are processes of one's own."""
    return {mark.partition(".")[0] for _pid, mark in _marked()}


def _marked() -> Iterator[tuple[int, str]]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            mark = variable(int(entry.name), MARK)
            if mark:
                yield int(entry.name), mark


def variable(pid: int, name: str) -> str:
    """What a process of one's own was started with, or empty."""
    with contextlib.suppress(OSError):
        path, before = _PROC / str(pid) / "environ", f"{name}=".encode()
        if path.stat().st_uid == os.geteuid():
            found = (word for word in path.read_bytes().split(b"\0") if word.startswith(before))
            return next(found, before)[len(before) :].decode("utf-8", "replace")
    return ""


def end(find: Callable[[], set[int]], patience: float = _TERM) -> set[int]:
    """Ask these processes to end, and make them after some seconds; returns what is left."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _KILL)):
        deadline = time.monotonic() + seconds
        told: set[int] = set()
        while True:
            left = find()
            # Asked once; what is killed may have started another meanwhile.
            for pid in left - told if number == signal.SIGTERM else left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            told |= left
            if not left or time.monotonic() > deadline:
                break
            reap()
            time.sleep(0.05)
        if not left:
            return left
    return left


def reap() -> None:
    """Take the exit status of orphans that became ours; that of the launcher is subprocess's to take."""
    for pid in [pid for pid, state, parent in _all() if state == "Z" and parent == os.getpid()]:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(pid, os.WNOHANG)


def sockets_to(port: int, proc: Path = _PROC) -> dict[str, str]:
    """{inode: state} of this node's connections to a port."""
    return {fields[9]: fields[3] for fields in _tcp(proc) if _port(fields[2]) == port}


def listeners(port: int, proc: Path = _PROC) -> set[int]:
    """Uids of those who listen on a port of this node."""
    return {int(fields[7]) for fields in _tcp(proc) if _port(fields[1]) == port and fields[3] == LISTEN}


def _tcp(proc: Path) -> Iterator[list[str]]:
    for name in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            yield from (line.split() for line in (proc / name).read_text().splitlines()[1:])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def with_sockets(pids: set[int], inodes: set[str], proc: Path = _PROC) -> set[int]:
    """Which of these processes have one of these open."""
    names = {f"socket:[{inode}]" for inode in inodes}
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(proc / str(pid) / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in names:
                        found.add(pid)
                        break
    return found
