# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove changed firewall rules by a new login; documented in plugins/modules/ufw_trial.py."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_trial import SECONDS
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.new_login import is_ssh, trouble

ARGUMENTS = {"state": {"type": "str", "choices": ["noted", "proved"], "required": True}}
MODULE = "gpustead.cluster.ufw_trial"
LATE = f"it came too late: the host was not done with the change within {SECONDS} s"
# What the host waits and does, when it is busy.
PATIENCE = SECONDS + 60


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode or args["state"] == "noted":
            result.update(self._on_host(args["state"], task_vars))
            return result
        found = self._on_host("asked", task_vars)
        if found.get("failed") or not (found["armed"] or found["taken_back"]):
            return {**result, **found}
        if found["taken_back"]:
            return {**result, "failed": True, "msg": self._complaint(LATE, back=True)}
        words = trouble(self) if is_ssh(self) else ""
        if words:
            return {**result, **self._taken_back(words, task_vars)}
        result.update(self._on_host("released", task_vars))
        if result.get("taken_back"):
            result.update(failed=True, msg=self._complaint(LATE, back=True))
        return {**result, "armed": True, "changed": False}

    def _on_host(self, state: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(MODULE, module_args={"state": state}, task_vars=task_vars)
        return answer

    def _taken_back(self, words: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Wait until the host lets in again, and tell the whole of it.

        By new logins: the connection that is there may hang under the changed rules.
        """
        deadline = time.monotonic() + PATIENCE
        still = True
        while still and time.monotonic() < deadline:
            time.sleep(5)  # sshd shuts out for a while who knocks in vain too often
            still = bool(trouble(self))
            if not still and not self._over(task_vars):
                still = True  # let in by chance: the time is not up
        return {"failed": True, "changed": False, "msg": self._complaint(words, back=not still)}

    def _over(self, task_vars: dict[str, Any] | None) -> bool:
        """Whether the host has done its work; what was kept goes then."""
        try:
            found = self._on_host("asked", task_vars)
        except AnsibleConnectionFailure:
            return False
        return not found.get("failed") and not found["armed"] and bool(found["taken_back"])

    def _complaint(self, words: str, back: bool) -> str:
        host = self._task_host()
        taken = (
            "They were taken back: /etc/ufw and the kernel have the rules that were there before."
            if back
            else f"The host still does not let in, {PATIENCE} s later: look at it at its console "
            "(ufw disable; journalctl -u gpustead-firewall-takeback)."
        )
        return (
            f"SSH to {host}: a new login under the changed firewall rules failed ({shown(words, 300)}). {taken} "
            "Find the rule that keeps this controller out (firewall_extra_rules, firewall_ssh_sources, "
            "/etc/ufw/before.rules, another firewall on the way), correct it, and run again."
        )

    def _task_host(self) -> str:
        port = self._connection.get_option("port") if is_ssh(self) else None
        return f"{self._play_context.remote_addr} port {port or 22}"
