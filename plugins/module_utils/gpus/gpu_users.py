# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who uses the GPUs of a host: whose processes have one of their devices open."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import names as names_of
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import processes
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

DEVICE = "/dev/nvidia[0-9].*"
# The driver's own daemon, which is known by its account too: anybody may take its name, of which the kernel keeps 15.
_DAEMON, _ITS_ACCOUNTS = "nvidia-persiste", ("root", "nvidia-persistenced")
_SECONDS = 60
_TOLD = 20


@dataclass(frozen=True)
class User:
    """A process, the account that it runs as, and its name."""

    pid: int
    account: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} {self.account} {self.command}"


def users(device: str = DEVICE, root: Path = Path("/"), seconds: float = _SECONDS) -> list[User]:
    """The first of those that use a GPU, without the driver's own daemon.

    Args:
        device: regular expression of the devices' paths.
        root: stands before /proc and /etc/passwd.
        seconds: for a look through what processes have open.

    Raises:
        GpusteadError: there is more than can be looked through.
    """
    names, wanted = names_of((root / "etc/passwd").read_text(errors="replace")), re.compile(device)
    proc, patience, found = root / "proc", processes.Patience(seconds), list[User]()
    try:
        for pid in processes.numbers(proc):
            with contextlib.suppress(OSError):  # it has ended
                if any(_leads(link, wanted) for link in processes.files(pid, patience, proc)):
                    uid = processes.uids(pid, proc)[1]
                    command = shown((proc / str(pid) / "comm").read_text(errors="replace").strip(), 40)
                    user = User(pid, names.get(uid, f"uid {uid}"), command)
                    found += [user] * (user.command != _DAEMON or user.account not in _ITS_ACCOUNTS)
            if len(found) == _TOLD:
                break
    except processes.OutOfTime as error:
        raise GpusteadError(str(error), "fewer, to see who uses the GPUs", "End that, then run again.") from None
    return found


def _leads(link: str, wanted: re.Pattern[str]) -> bool:
    try:
        return bool(wanted.fullmatch(os.readlink(link)))
    except OSError:  # it was closed
        return False
