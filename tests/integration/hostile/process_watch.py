"""What accounts could read of a machine's processes: all command lines, and the environment of what is an account's.

The kernel tells of each process that starts something (its process connector), so that none is too short-lived to be
looked at. The lab's hosts are containers: their processes are this machine's, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

_CONNECTOR = 11  # NETLINK_CONNECTOR
_PROCESSES = (1, 1)  # CN_IDX_PROC, CN_VAL_PROC
_LISTEN, _EXEC = 1, 2  # PROC_CN_MCAST_LISTEN, PROC_EVENT_EXEC
_FIRST_ACCOUNT = 1000  # UID_MIN
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_MESSAGE = struct.Struct("=IIIIHH")  # cn_msg
_EVENT = struct.Struct("=IIQII")  # proc_event: what, cpu, timestamp, pid, tgid


class Watch:
    """Looks for secrets in processes.

    Args:
        needles: name of a secret to the text that no process may show.

    Attributes:
        found: lines that name the secret and the program that showed it.
        started: how many programs were looked at.
    """

    def __init__(self, needles: Mapping[str, str]) -> None:
        self.needles = {name: text.encode() for name, text in needles.items()}
        self.found: set[str] = set()
        self.started = 0
        self._over = threading.Event()
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._events.bind((os.getpid(), 1))
        self._events.settimeout(1)
        body = _MESSAGE.pack(*_PROCESSES, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
        self._events.send(_HEADER.pack(_HEADER.size + len(body), 3, 0, 0, os.getpid()) + body)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                data = self._events.recv(1 << 12)
            except TimeoutError:
                self._look_at_all()
                continue
            except OSError:  # so many that some were lost
                self._look_at_all()
                continue
            what, _cpu, _time, pid, _group = _EVENT.unpack_from(data, _HEADER.size + _MESSAGE.size)
            if what == _EXEC:
                self._look(pid)

    def _look_at_all(self) -> None:
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                self._look(int(entry))

    def _look(self, pid: int) -> None:
        place = Path("/proc", str(pid))
        with contextlib.suppress(OSError):
            command = (place / "cmdline").read_bytes()
            self.started += 1
            self._note("command line", command, command)
            # Root's and those of the system's accounts (apt's in a build) nobody can read who logs in.
            if place.stat().st_uid >= _FIRST_ACCOUNT:
                self._note("environment", (place / "environ").read_bytes(), command)

    def _note(self, where: str, text: bytes, command: bytes) -> None:
        for name, needle in self.needles.items():
            if needle in text:
                program = command[:80].replace(b"\0", b" ").replace(needle, b"<it>").decode(errors="replace")
                self.found.add(f"{name} in the {where} of {program}")

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._events.close()


@contextlib.contextmanager
def watch(needles: Mapping[str, str]) -> Iterator[Watch]:
    """A watch that lasts as long as the block."""
    watching = Watch(needles)
    try:
        yield watching
    finally:
        watching.stop()
