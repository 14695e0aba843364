# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells people something in their terminals: at a login, in a workspace, in tmux, in JupyterLab.

wall(1) knows logins of the host alone. Terminals of containers lie in file systems of their own, but their processes
are the host's, and what these have open leads there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import processes
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_NAME = re.compile(r"(/dev/pts)?/\d+")  # as the kernel calls it, wherever it is mounted
_MAJORS = range(136, 144)  # Unix98 PTY slaves, Documentation/admin-guide/devices.txt
_OPEN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ROOT = Identity(0, 0)


def tell(words: str, timeout: float = 20, pids: Iterable[int] | None = None, proc: Path = Path("/proc")) -> int:
    """Say it in each terminal once; returns in how many. One that takes nothing now is left out.

    Args:
        words: one line.
        timeout: seconds for all of them.
        pids: of processes whose terminals these are; without them of all.

    Raises:
        GpusteadError: they were not told in time.
    """
    line = f"\r\n[gpustead] {shown(words, 1000)}\r\n".encode()

    def work() -> int:
        told: set[tuple[int, int]] = set()
        for pid in processes.numbers(proc) if pids is None else pids:
            with contextlib.suppress(OSError):  # it has ended
                told |= _tell(f"{proc}/{pid}/fd/0", line, told)
        return len(told)

    told: int = as_account.run(work, _ROOT if os.geteuid() == 0 else _own(), timeout=timeout, place="terminals")
    return told


def _own() -> Identity:
    return Identity(os.getuid(), os.getgid(), tuple(os.getgroups()))


def _tell(link: str, line: bytes, told: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """The terminal that it leads to, where that was told now."""
    if not _NAME.fullmatch(os.readlink(link)):
        return set()
    # The name may be anybody's, of a pipe or of a file: what it is the descriptor says.
    held = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(held)
        which = (found.st_dev, found.st_ino)
        if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) not in _MAJORS or which in told:
            return set()
        terminal = os.open(f"/proc/self/fd/{held}", _OPEN)
        try:
            os.write(terminal, line)
        finally:
            os.close(terminal)
        return {which}
    finally:
        os.close(held)
