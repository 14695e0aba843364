# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who listens on a port that is ours: every account may, and what was to listen there then cannot start.

Root's are not judged: those are Docker's, of the container that runs, or an administrator's.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts_host import names as names_of
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Accounts of packages, under which services of ours listen.
SERVICES = ("docker-registry",)
_LISTENING = "0A"  # states of TCP, include/net/tcp_states.h


@dataclass(frozen=True)
class Socket:
    """One that listens: its port, the uid that made it, and its inode."""

    port: int
    uid: int
    inode: str


@dataclass(frozen=True)
class Holder:
    """An account's process that listens on a port. `pid` is 0 where none was found: it has ended meanwhile."""

    port: int
    account: str
    pid: int
    command: str

    def __str__(self) -> str:
        process = f"process {self.pid} ({self.command})" if self.pid else "a process"
        return f"{process} of account '{self.account}'"


def parse(table: str) -> Iterator[Socket]:
    """The sockets that listen, in /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING:
            yield Socket(int(fields[1].rpartition(":")[2], 16), int(fields[7]), fields[9])


def holders(ports: Iterable[int], allowed: Iterable[str] = (), root: Path = Path("/")) -> list[Holder]:
    """The accounts that listen on these ports of this host, whatever the address.

    Args:
        ports: that nobody but root may have.
        allowed: names of further accounts that may.
        root: stands before /proc and /etc/passwd.
    """
    wanted, names = set(ports), names_of((root / "etc/passwd").read_text(errors="replace"))
    tables = [root / "proc/net" / name for name in ("tcp", "tcp6")]
    sockets = [one for table in tables if table.exists() for one in parse(table.read_text()) if one.port in wanted]
    fine = {"root", *allowed}
    foreign = [one for one in sockets if one.uid != 0 and names.get(one.uid) not in fine]
    processes = _processes({one.inode for one in foreign}, root / "proc") if foreign else {}
    found = {
        Holder(one.port, names.get(one.uid, f"uid {one.uid}"), *processes.get(one.inode, (0, ""))) for one in foreign
    }
    return sorted(found, key=lambda holder: (holder.port, holder.account, holder.pid))


def refuse(ports: Mapping[str, int], found: Iterable[Holder], remedy: str) -> None:
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


def _processes(inodes: set[str], proc: Path) -> dict[str, tuple[int, str]]:
    """Process and its name by the inode of a socket that it holds; the lowest number of several."""
    found: dict[str, tuple[int, str]] = {}
    for pid in sorted(int(entry.name) for entry in os.scandir(proc) if entry.name.isdecimal()):
        with contextlib.suppress(OSError):  # it has ended
            for entry in os.scandir(proc / str(pid) / "fd"):
                held = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
                if held and held[1] in inodes and held[1] not in found:
                    found[held[1]] = pid, shown((proc / str(pid) / "comm").read_text(errors="replace").strip(), 40)
    return found
