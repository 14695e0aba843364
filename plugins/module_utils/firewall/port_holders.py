# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who has a port that is ours: every account may listen there, and what was to listen there then cannot start.

So it is with one that only binds a socket to it, or calls others from it; that is seen by trying.

Root's are not judged: those are Docker's, of the container that runs, or an administrator's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import names as names_of
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import processes
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Accounts of packages, under which services of ours listen.
SERVICES = ("docker-registry",)
_TOLD = 10  # processes that have one port
_LISTENING = "0A"  # states of TCP, include/net/tcp_states.h
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # asm-generic/unistd.h
_PIDFD_THREAD = os.O_EXCL  # linux/pidfd.h
_SIOCGSKNS = 0x894C  # linux/sockios.h
# It can be kept where nobody sees it: sent to a socket and not taken, by a thread alone, by io_uring.
_HIDDEN = "unknown (no process shows it)"
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Socket:
    """One that listens: its port, the uid that made it, and its inode."""

    port: int
    uid: int
    inode: str


@dataclass(frozen=True)
class PortHolder:
    """An account's process that has a port. `pid` is 0 where none was found: it has ended meanwhile, or accounts have
    too many files open."""

    port: int
    account: str
    pid: int
    command: str

    def __str__(self) -> str:
        process = f"process {self.pid} ({self.command})" if self.pid else "a process"
        return f"{process} of account '{self.account}'"


def parse(lines: Iterable[str]) -> Iterator[Socket]:
    """The sockets that listen, of the lines of /proc/net/tcp or tcp6."""
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING:
            yield Socket(int(fields[1].rpartition(":")[2], 16), int(fields[7]), fields[9])


def holders(
    ports: Iterable[int], allowed: Iterable[str] = (), root: Path = Path("/"), seconds: float = 10
) -> list[PortHolder]:
    """The accounts that have these ports of this host, whatever the address; of each port the first processes.

    Args:
        ports: that nobody but root may have.
        allowed: names of further accounts that may.
        root: stands before /proc and /etc/passwd.
        seconds: for a look through what processes have open.
    """
    wanted, names = set(ports), names_of((root / "etc/passwd").read_text(errors="replace"))
    sockets = [one for name in ("tcp", "tcp6") for one in _listening(root / "proc/net" / name, wanted)]
    fine = {"root", *allowed}
    foreign = [one for one in sockets if one.uid != 0 and names.get(one.uid) not in fine]
    found_by = _processes({one.inode for one in foreign}, root / "proc", seconds) if foreign else {}
    found = {
        PortHolder(one.port, names.get(one.uid, f"uid {one.uid}"), *found_by.get(one.inode, (0, ""))) for one in foreign
    }
    taken = {port for port in wanted - {one.port for one in sockets} if not _is_free(port)}
    unseen = set(taken)
    try:
        for port, uid, pid, command in _bound(taken, root / "proc", seconds) if taken else ():
            unseen.discard(port)
            if uid != 0 and names.get(uid) not in fine:
                found.add(PortHolder(port, names.get(uid, f"uid {uid}"), pid, command))
        found |= {PortHolder(port, _HIDDEN, 0, "") for port in unseen if not _is_free(port)}
    except processes.OutOfTime as error:
        found |= {PortHolder(port, f"unknown ({error})", 0, "") for port in taken - {one.port for one in found}}
    ordered = sorted(found, key=lambda holder: (holder.port, holder.account, holder.pid))
    return [one for number, one in enumerate(ordered) if number < _TOLD or ordered[number - _TOLD].port != one.port]


def refuse(ports: Mapping[str, int], found: Iterable[PortHolder], remedy: str) -> None:
    """Raise the error that names all of them.

    Args:
        ports: port by what is to listen there.
        found: of `holders`.
        remedy: how the port can be changed.
    """
    uses = {port: what for what, port in ports.items()}
    taken = list(found)
    if taken:
        what = "; ".join(f"port {holder.port} ({uses[holder.port]}) is taken by {holder}" for holder in taken)
        raise GpusteadError(what, "ports that nobody else listens on", f"End what listens there, or {remedy}.")


def _is_free(port: int) -> bool:
    """Whether a service could listen there."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # else there is no IPv6
                return False
    return True


def _listening(table: Path, ports: Collection[int]) -> list[Socket]:
    """Those at these ports. Accounts may have hundreds of thousands of others."""
    try:
        with open(table, encoding="ascii", errors="replace") as lines:
            return [one for one in parse(lines) if one.port in ports]
    except FileNotFoundError:  # there is no IPv6
        return []


def _bound(ports: Collection[int], proc: Path, seconds: float) -> Iterator[tuple[int, int, int, str]]:
    """(port, uid, process, its name) of those whose sockets are bound there: /proc/net does not tell of these.

    Raises processes.OutOfTime where not all could be looked through.
    """
    patience, ours = processes.Patience(seconds), os.stat("/proc/self/ns/net")
    for pid in processes.numbers(proc):
        with contextlib.suppress(OSError):  # it has ended
            for link in processes.files(pid, patience, proc):
                if _inode(link) and _port(link, ours) in ports:
                    yield _port(link, ours), processes.uids(pid, proc)[1], pid, _command(proc / str(pid))


def _port(link: str, host: os.stat_result) -> int:
    """The port of the host that another process's socket is bound to, by its link; 0 for none."""
    thread, _fd, file = link.split("/")[-3:]
    try:
        handle = _thread(int(thread))
        try:
            with socket.socket(fileno=_system(_PIDFD_GETFD, handle, int(file), 0)) as one:
                is_tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
                port = int(one.getsockname()[1]) if is_tcp else 0
                return port if port and _is_of(one, host) else 0
        finally:
            os.close(handle)
    except OSError:
        return 0


def _thread(number: int) -> int:
    try:
        return _system(_PIDFD_OPEN, number, _PIDFD_THREAD)
    except OSError:  # a kernel before 6.9 opens the first thread of a process alone
        return _system(_PIDFD_OPEN, number, 0)


def _is_of(one: socket.socket, host: os.stat_result) -> bool:
    """Whether a socket is of a network: it stays so where its process has moved to another one, as accounts may."""
    network = fcntl.ioctl(one, _SIOCGSKNS)
    try:
        return os.path.samestat(os.fstat(network), host)
    finally:
        os.close(network)


def _system(number: int, *arguments: int) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _command(process: Path) -> str:
    return shown((process / "comm").read_text(errors="replace").strip(), 40)


def _processes(inodes: set[str], proc: Path, seconds: float) -> dict[str, tuple[int, str]]:
    """Process and its name by the inode of a socket that it holds, the lowest number of several; as far as the time
    reaches."""
    found: dict[str, tuple[int, str]] = {}
    patience = processes.Patience(seconds)
    with contextlib.suppress(processes.OutOfTime):
        for pid in processes.numbers(proc):
            with contextlib.suppress(OSError):  # it has ended
                for link in processes.files(pid, patience, proc):
                    inode = _inode(link)
                    if inode in inodes and inode not in found:
                        found[inode] = pid, _command(proc / str(pid))
            if len(found) == len(inodes):
                break
    return found


def _inode(link: str) -> str:
    """Of the socket that a descriptor is; empty for another, and for one that was closed meanwhile."""
    try:
        held = _SOCKET.fullmatch(os.readlink(link))
    except OSError:
        return ""
    return held[1] if held else ""
