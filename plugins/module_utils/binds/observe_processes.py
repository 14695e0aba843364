# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who has entered a place, or holds what is in it, since before it was covered or closed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts

_IN_SOCKET = "open files on their way in a socket"


def refuse_who_is_inside(place: str, sockets: bool = False) -> None:
    """Raise where somebody entered a place, or opened what is in it, before it was covered, or closed to all but root:
    they see it as it was.

    Root in a container would leave a program there that makes them root of the host.

    Args:
        place: its path.
        sockets: whether a process that has not yet taken files out of a socket counts, whatever these are.
    """
    found = sorted(_inside(os.fsencode(place), sockets))
    for _again in range(5 if sockets else 0):
        if not found or any(path != _IN_SOCKET for _pid, _uid, path in found):
            break
        time.sleep(0.5)  # who only passes files on, soon has none left
        found = sorted(_inside(os.fsencode(place), sockets))
    if found:
        some = ", ".join(f"{pid} of uid {uid} ({path})" for pid, uid, path in found[:5])
        what = f"processes have been in {place} since before containers were to write there: {some}"
        remedy = f"End them (kill {' '.join(str(pid) for pid, _second, _third in found[:20])}), then run again."
        raise GpusteadError(what, "nobody to be in there", remedy)


def _inside(place: bytes, sockets: bool) -> Iterator[tuple[int, int, str]]:
    """(process, uid, path) of each that is not root's of the host."""
    host = os.stat("/proc/self/ns/mnt").st_ino
    with open("/proc/self/mountinfo", "rb") as file:
        ours = {int(line.split(b" ", 1)[0]) for line in file}  # in other namespaces the host's programs are nobody's
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(OSError):  # it has ended
            uids = _uids(pid)
            counts = any(uids) or os.stat(f"/proc/{pid}/ns/mnt").st_ino != host
            # Threads may have directories and files of their own.
            tasks = [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")] if counts else []
            path = next(filter(None, (_sees(task, place, ours, sockets) for task in tasks)), "")
            if path:
                yield pid, max(uids), path


def _uids(pid: int) -> list[int]:
    with open(f"/proc/{pid}/status", "rb") as file:
        lines = file.read().split(b"\n")
    return [int(uid) for line in lines if line.startswith(b"Uid:") for uid in line.split()[1:]]


def _sees(task: str, place: bytes, ours: set[int], sockets: bool) -> str:
    """What a thread has of a place without the cover; empty where it has nothing.

    Its program counts as well: it can be started once more. What a socket holds that was sent and not taken, nobody can
    look at.
    """
    files = [f"{task}/fd/{number}" for number in os.listdir(f"{task}/fd")]
    for link in (f"{task}/cwd", f"{task}/root", f"{task}/exe", *files):
        with contextlib.suppress(OSError):
            path = os.readlink(os.fsencode(link))
            if sockets and path.startswith(b"socket:") and _holds_files(link.replace("/fd/", "/fdinfo/")):
                return _IN_SOCKET
            if path == place or path.startswith(place + b"/"):
                held = os.open(link, os.O_PATH | os.O_CLOEXEC)
                try:
                    if _mount_of(held) in ours and not mounts.is_harmless(os.fstatvfs(held).f_flag):
                        return os.fsdecode(path)
                finally:
                    os.close(held)
    return ""


def _holds_files(socket: str) -> bool:
    with open(socket, "rb") as info:
        return any(line.startswith(b"scm_fds:") and int(line.split()[1]) > 0 for line in info)


def _mount_of(file: int) -> int:
    with open(f"/proc/self/fdinfo/{file}", "rb") as info:
        return next((int(line.split()[1]) for line in info if line.startswith(b"mnt_id:")), -1)
