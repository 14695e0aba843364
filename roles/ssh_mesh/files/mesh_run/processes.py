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
ESTABLISHED, SYN_SENT = "01", "02"
_PROC = Path("/proc")
_TERM, _KILL = 5.0, 10.0  # seconds


def descendants(root: int) -> set[int]:
    """All that a process has started, and what these have; not itself. What is a zombie is none."""
    parents = dict(_parents())
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, parent = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    yield int(entry.name), int(parent)


def of_run(run: str) -> set[int]:
    """One's own processes of a run, or of its part on a node (`<run>.<number>`): by their mark."""
    mark = f"{MARK}={run}".encode()
    found: set[int] = set()
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                path = Path(entry.path, "environ")
                if path.stat().st_uid == os.geteuid() and any(
                    word == mark or word.startswith(mark + b".") for word in path.read_bytes().split(b"\0")
                ):
                    found.add(int(entry.name))
    return found


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
    for pid in descendants_zombies(os.getpid()):
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(pid, os.WNOHANG)


def descendants_zombies(parent: int) -> list[int]:
    """Children that have ended and wait to be taken notice of."""
    found = []
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, above = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                if state == "Z" and int(above) == parent:
                    found.append(int(entry.name))
    return found


def sockets_to(port: int, proc: Path = _PROC) -> dict[str, str]:
    """{inode: state} of this node's connections to a port."""
    found = {}
    for name in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / name).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[2].rpartition(":")[2], 16) == port:
                    found[fields[9]] = fields[3]
    return found


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
