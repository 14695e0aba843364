# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who has entered a place, or holds what is in it, since before it was covered or closed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts, processes

_SEARCH = 10  # seconds to look through what processes have open
_IN_SOCKET = "open files on their way in a socket"


def refuse_who_is_inside(place: str, sockets: bool = False) -> None:
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


def _mount_of(file: int) -> int:
    with open(f"/proc/self/fdinfo/{file}", "rb") as info:
        return next((int(line.split()[1]) for line in info if line.startswith(b"mnt_id:")), -1)
