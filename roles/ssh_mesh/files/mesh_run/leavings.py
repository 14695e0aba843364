# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the ranks of a run leave in the memory of their node: files of /dev/shm, which is the node's own.

DeepSpeed never removes the buffers in which ranks on CPUs add up: tens of MB for each rank, named by uid, by address
and port of the rendezvous, and by rank. PyTorch and OpenMP name theirs by the process, and leave them where that is
killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from mesh_run import processes
from mesh_run.places import SHM
from mesh_run.request import PORTS


def _names(uid: int, address: str, port: int, pids: Collection[int]) -> re.Pattern[str]:
    gone = "|".join(str(pid) for pid in sorted(pids)) or "(?!)"
    rendezvous = f"{uid}_{re.escape(address)}_{port}"
    return re.compile(
        rf"deepspeed_allreduce_buffer_{rendezvous}_\d+\Z"
        rf"|torch_(?:{gone})_\d+_\d+\Z"
        rf"|__KMP_REGISTERED_LIB_(?:{gone})_{uid}\Z"
    )


def remove(address: str, port: int, pids: Collection[int], since: float, shm: Path = SHM) -> None:
    """Remove what a run of this account left, while nobody else has its port on this node.

    Args:
        address, port: its rendezvous.
        pids: its processes. The host, which has the same /dev/shm, gives such numbers as well: only those that are
            gone count, and of their files only those that were made since the run began.
        since: when that was, in seconds since 1970.
    """
    uid = os.geteuid()
    names = _names(uid, address, port, set(pids) - processes.alive())
    for entry in _entries(shm):
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == uid
            by_process = not entry.name.startswith("deepspeed_")
            if ours and names.match(entry.name) and not (by_process and status.st_ctime < since):
                os.unlink(entry.path)


def remove_dead(hold: Callable[[int], socket.socket | None], shm: Path = SHM) -> None:
    """Remove DeepSpeed's files of this account for ports that no run has on this node: a container was killed, say.

    Args:
        hold: takes a port for a run, as long as what it returns is open; None where another has it.
    """
    name = re.compile(rf"deepspeed_allreduce_buffer_{os.geteuid()}_.+_(\d+)_\d+\Z")
    found = [match for match in (name.match(entry.name) for entry in _entries(shm)) if match]
    for port in {int(match[1]) for match in found} & set(PORTS):
        # What was started by hand holds nothing, but speaks to its rendezvous.
        held = None if processes.ESTABLISHED in processes.sockets_to(port).values() else hold(port)
        if held:
            with held:
                for match in found:
                    path = shm / match.string
                    with contextlib.suppress(OSError):
                        if int(match[1]) == port and path.lstat().st_uid == os.geteuid():
                            path.unlink()


def of_others(address: str, port: int, shm: Path = SHM) -> bool:
    """Whether somebody has put a file where a rank of this account would make its own."""
    uid = os.geteuid()
    names = _names(uid, address, port, ())
    for entry in _entries(shm):
        with contextlib.suppress(OSError):
            if names.match(entry.name) and entry.stat(follow_symlinks=False).st_uid != uid:
                return True
    return False


def _entries(shm: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError):
        yield from os.scandir(shm)
