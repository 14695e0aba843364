# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which roles of a host are stale, in one exchange; documented in plugins/modules/receipt_check.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_check import HostCheck, explained
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import HostInputs

ARGUMENTS = {
    "inputs": {"type": "dict", "required": True},
    "force": {"type": "bool", "default": False},
    "group": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        check = HostCheck(HostInputs(self, task_vars), args["inputs"])
        result.update(check.result(check.ask(self), args["force"], following=bool(args["group"])))
        if result["stale"] and args["group"]:
            result.update(self._join(args["group"], task_vars))
            self._display.display(explained(task_vars["inventory_hostname"], result))
        return result

    def _join(self, group: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Put this host into a group, by Ansible's own group_by."""
        task = self._task.copy()
        task.args = {"key": group}
        action = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.group_by",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        joined = action.run(task_vars=task_vars)
        # `changed` is left out: a group is in Ansible's own memory, on no host.
        return {key: value for key, value in joined.items() if key in ("add_group", "parent_groups")}
