# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A long way to one host of the lab: a link whose packets take their time, in each direction.

    link.py ADDRESS PID MILLISECONDS      until it is ended

ADDRESS is the host's, PID a process in its network namespace. Two tun devices, one here and one there, and this
process between them, which passes each packet on when it is due. The kernels' own TCP runs over it, with its
handshakes and its slow start, as over a device with `tc netem`, whose kernel module not every machine has. The host
keeps its address: here a route to it leads through the link, there a route back.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
HERE, THERE = "gs-far-here", "gs-far-there"
# The controller's address on the link, in a network that is reserved for benchmarks (RFC 2544).
CONTROLLER = "198.18.0.1"


def tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def ip(*argv: str, inside: str = "") -> None:
    prefix = ["nsenter", f"--net={inside}"] if inside else []
    subprocess.run([*prefix, "ip", *argv], check=True)


def open_ends(address: str, pid: str) -> tuple[int, int]:
    """Both ends, up and routed. The far one is made in the host's network namespace."""
    here, inside = tun(HERE), f"/proc/{pid}/ns/net"
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(inside, os.O_RDONLY)
    setns(other)
    there = tun(THERE)
    setns(own)
    ip("link", "set", THERE, "up", inside=inside)
    ip("route", "add", f"{CONTROLLER}/32", "dev", THERE, "src", address, inside=inside)
    ip("address", "add", f"{CONTROLLER}/32", "dev", HERE)
    ip("link", "set", HERE, "up")
    ip("route", "add", f"{address}/32", "dev", HERE, "src", CONTROLLER)
    return here, there


def setns(descriptor: int) -> None:
    """os.setns is there from Python 3.12 on; the C library's before."""
    if hasattr(os, "setns"):
        os.setns(descriptor, 0)
        return
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")


def carry(here: int, there: int, delay: float) -> None:
    """Pass packets on for ever, each `delay` seconds after it came."""
    other = {here: there, there: here}
    waiting: deque[tuple[float, int, bytes]] = deque()
    poll = select.epoll()
    for end in other:
        poll.register(end, select.EPOLLIN)
    while True:
        # All wait for the same time: the first that came is the first that is due.
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else -1
        for end, _ in poll.poll(pause):
            waiting.extend((time.monotonic() + delay, other[end], packet) for packet in packets(end))
        while waiting and waiting[0][0] <= time.monotonic():
            _, end, packet = waiting.popleft()
            with contextlib.suppress(BlockingIOError):  # as on a device that is full: TCP sends it again
                os.write(end, packet)


def packets(end: int) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(os.read(end, 65536))
    except BlockingIOError:
        return found


def main() -> None:
    address, pid, milliseconds = sys.argv[1:]
    # The devices and with them the routes go when the process ends, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # A packet that is due does not wait for the programs that are measured.
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    here, there = open_ends(address, pid)
    print("ready", flush=True)
    carry(here, there, float(milliseconds) / 1000)


if __name__ == "__main__":
    main()
