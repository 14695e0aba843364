# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says whose run takes a lease, and whether the one that has it lives; documented in plugins/modules/lease.py."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

MODULE = "gpustead.cluster.lease"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE, _PIDS = Path("/etc/machine-id"), Path("/proc/self/ns/pid")


def began(pid: int) -> str:
    """When a process of this machine began, in ticks since the boot; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def here() -> str:
    """This machine, and where its processes have these numbers: others have the same name."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = _MACHINE.read_text().strip()
    return f"{socket.gethostname()} {machine} {os.readlink(_PIDS)}"


def token_of(pid: int) -> str:
    """What no other process has, on no machine."""
    return f"{here()}/{_BOOT.read_text().strip()}/{pid}/{began(pid)}"


def is_gone(token: str) -> bool:
    """Whether it is a process of this machine that has ended."""
    machine, boot, pid, since = ["", "", "", *token.rsplit("/", 3)][-4:]
    if machine != here() or not pid.isdigit():
        return False
    if boot != _BOOT.read_text().strip():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another administrator's, which the kernel may hide
    return began(int(pid)) not in (since, "")


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        # Of the run as a whole: this is a process of one task.
        holder = {"token": token_of(os.getppid()), "by": f"{getpass.getuser()}@{socket.gethostname()}"}
        answer = self._ask(holder, task_vars)
        gone = str((answer.get("holder") or {}).get("token", ""))
        if answer.get("failed") and is_gone(gone):
            answer = self._ask({**holder, "gone": gone}, task_vars)
        return {**result, **answer}

    def _ask(self, holder: dict[str, str], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = {**self._task.args, "holder": holder}
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer
