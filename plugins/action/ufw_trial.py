# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove changed firewall rules by a new login; documented in plugins/modules/ufw_trial.py."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.ufw_trial import SECONDS
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_fan_out import SSH

ARGUMENTS = {"state": {"type": "str", "choices": ["noted", "proved"], "required": True}}
MODULE = "gpustead.cluster.ufw_trial"
# In front of all that the host's own settings say: ssh takes what it is told first.
ANEW = "-o ControlPath=none -o ControlMaster=no"
LATE = f"it came too late: the host was not done with the change within {SECONDS} s"
# Of one login, so that two tries fit into the time.
CONNECT = 10
# What the host waits and does, when it is busy.
PATIENCE = SECONDS + 60


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        _, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode or args["state"] == "noted":
            result.update(self._on_host(args["state"], task_vars))
            return result
        found = self._on_host("asked", task_vars)
        if found.get("failed") or not (found["armed"] or found["taken_back"]):
            return {**result, **found}
        if found["taken_back"]:
            return {**result, "failed": True, "msg": self._complaint(LATE, back=True)}
        trouble = self._login() if self._connection._load_name in SSH else ""
        if trouble:
            return {**result, **self._taken_back(trouble, task_vars)}
        result.update(self._on_host("released", task_vars))
        if result.get("taken_back"):
            result.update(failed=True, msg=self._complaint(LATE, back=True))
        return {**result, "armed": True, "changed": False}

    def _on_host(self, state: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(MODULE, module_args={"state": state}, task_vars=task_vars)
        return answer

    def _login(self) -> str:
        """Log in over a connection of its own and become who the task becomes. What is in the way, or nothing."""
        connection = self._connection
        names = ("ssh_args", "timeout", "reconnection_retries")
        before = {name: connection.get_option(name) for name in names}
        connection.set_option("ssh_args", f"{ANEW} {before['ssh_args'] or ''}".strip())
        connection.set_option("timeout", CONNECT)
        connection.set_option("reconnection_retries", 1)
        try:
            done = self._low_level_execute_command("true")
        except AnsibleConnectionFailure as error:
            return str(error)
        finally:
            for name, value in before.items():
                connection.set_option(name, value)
        return "" if done["rc"] == 0 else (done["stderr"] or done["stdout"]).strip() or f"true ended with {done['rc']}"

    def _taken_back(self, trouble: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Wait until the host lets in again, and tell the whole of it."""
        deadline = time.monotonic() + PATIENCE
        still = True
        while still and time.monotonic() < deadline:
            time.sleep(2)
            still = bool(self._login())
            if not still and not self._over(task_vars):
                still = True  # let in by chance: the time is not up
        return {"failed": True, "changed": False, "msg": self._complaint(trouble, back=not still)}

    def _over(self, task_vars: dict[str, Any] | None) -> bool:
        """Whether the host has done its work; what was kept goes then."""
        try:
            found = self._on_host("asked", task_vars)
        except AnsibleConnectionFailure:
            return False
        return not found.get("failed") and not found["armed"] and bool(found["taken_back"])

    def _complaint(self, trouble: str, back: bool) -> str:
        host = self._task_host()
        words = " ".join(trouble.split())
        taken = (
            "They were taken back: /etc/ufw and the kernel have the rules that were there before."
            if back
            else f"The host still does not let in, {PATIENCE} s later: look at it at its console "
            "(ufw disable; journalctl -u gpustead-firewall-takeback)."
        )
        return (
            f"SSH to {host}: a new login under the changed firewall rules failed ({words}). {taken} "
            "Find the rule that keeps this controller out (firewall_extra_rules, firewall_ssh_sources, "
            "/etc/ufw/before.rules, another firewall on the way), correct it, and run again."
        )

    def _task_host(self) -> str:
        options = self._connection
        port = options.get_option("port") if self._connection._load_name in SSH else None
        return f"{self._play_context.remote_addr} port {port or 22}"
