# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs one command from the cold and says what it cost the controller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One run: wall-clock and CPU seconds (user and system, of the whole tree), what it printed."""

    seconds: float
    cpu: float
    output: str
    peak_mib: float = 0.0


class Failed(Exception):
    """A contestant did not do what it was started for: no figure of it counts."""


def stat_fields(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def masters(sockets: str) -> list[int]:
    """The SSH connections kept open for later runs: they name their socket in their title."""
    found = []
    for pid in processes():
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ssh:") and sockets.encode() in title:
            found.append(pid)
    return found


def close_masters(sockets: str) -> float:
    """Ends them and returns the CPU seconds that they had taken, which no wait() tells."""
    cpu = 0.0
    for pid in masters(sockets):
        try:
            fields = stat_fields(pid)
            os.kill(pid, signal.SIGTERM)
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / TICKS
    return cpu


@contextmanager
def no_connections() -> Iterator[str]:
    """A directory for control sockets in which none is: whoever keeps connections open has to open them first."""
    # Directly in /tmp: the path of a socket has at most 108 characters.
    folder = tempfile.mkdtemp(prefix="bench-", dir="/tmp")
    try:
        yield folder
    finally:
        close_masters(folder)
        shutil.rmtree(folder, ignore_errors=True)


def run_cold(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], sample: float = 0, limit: float = 3600) -> Run:
    """Run a command without any connection open. Its memory is looked at every `sample` seconds, which costs time.

    Raises:
        Failed: it ended with another status than 0, or not within `limit` seconds.
    """
    with no_connections() as sockets, tempfile.TemporaryFile("w+") as output:
        environment = {**env, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets}
        began = time.monotonic()
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        guard = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        guard.daemon = True
        guard.start()
        peak = Peak(process.pid, sample) if sample else None
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            guard.cancel()
            if process.returncode is None:  # this process was told to stop
                os.killpg(process.pid, signal.SIGKILL)
        cpu = usage.ru_utime + usage.ru_stime + close_masters(sockets)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise Failed(f"{' '.join(argv)} ended with {process.returncode}:\n{text[-4000:]}")
    return Run(seconds, cpu, text, peak.stop() if peak else 0.0)


class Peak:
    """The most memory that a process and its descendants held at once: the sum of their proportional shares."""

    def __init__(self, pid: int, interval: float) -> None:
        self.pid, self.interval, self.kib = pid, interval, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self.kib / 1024

    def _watch(self) -> None:
        while not self._over.wait(self.interval):
            self.kib = max(self.kib, sum(share(pid) for pid in family(self.pid)))


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    try:
        children = [
            child
            for thread in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        ]
    except OSError:
        return  # it has ended in the meantime
    for child in children:
        yield from family(int(child))


def share(pid: int) -> int:
    """KiB of a process; pages that several share count for each in part."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass  # it has ended in the meantime
    return 0
