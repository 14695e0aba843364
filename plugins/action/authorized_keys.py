# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change keys, and prove those of the login account by a new login; see plugins/modules/authorized_keys.py."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.keys_trial import SECONDS
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.new_login import is_ssh, trouble

MODULE = "gpustead.cluster.authorized_keys"
# The timer, what it starts, and a host that is busy.
PATIENCE = SECONDS + 60


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self._execute_module(MODULE, module_args=self._task.args, task_vars=task_vars))
        names = result.pop("on_trial", [])
        if not names or result.get("failed"):
            return result
        words = trouble(self) if is_ssh(self) else ""
        if not words:
            answer = self._on_host("proved", task_vars)
            if answer.get("failed"):
                return {**result, **answer}
            words = "the proof came too late, the host is too busy" if answer["taken_back"] else ""
        elif not self._taken_back(task_vars):
            message = f"{self._complaint(names[0], words)} The host still does not let in: look at it at its console."
            return {**result, "failed": True, "msg": message}
        if words:
            return self._refuse(result, names[0], words)
        return result

    def _on_host(self, state: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = {**self._task.args, "state": state}
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer

    def _taken_back(self, task_vars: dict[str, Any] | None) -> bool:
        """Wait until the host has what it had before.

        Over the connection that is there as long as it lasts: sshd shuts out whoever knocks in vain too often.
        """
        deadline = time.monotonic() + PATIENCE
        time.sleep(SECONDS)
        while time.monotonic() < deadline:
            time.sleep(5)
            try:
                answer = self._on_host("asked", task_vars)
            except AnsibleConnectionFailure:
                continue
            if not answer.get("failed") and answer["taken_back"]:
                return True
        return False

    def _complaint(self, name: str, words: str) -> str:
        return (
            f"a new login with the keys declared for '{name}', as which Ansible logs in, failed ({shown(words, 300)})"
        )

    def _refuse(self, result: dict[str, Any], name: str, words: str) -> dict[str, Any]:
        what = f"{self._complaint(name, words)}; the keys that were there before were put back"
        remedy = f"Add the controller's own public key to ssh_keys of '{name}', then run again."
        refusal = Refusal(name, what, "the controller to get in", remedy)
        if not self._task.args.get("keep_going"):
            return {**result, "failed": True, "msg": str(refusal)}
        return {**result, "refused": [*result["refused"], vars(refusal)]}
