# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs that all hosts have in common, on the controller; documented in plugins/modules/receipt_inputs.py."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host import ROLES, HostInputs


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _, _ = self.validate_argument_spec({})
        result: dict[str, Any] = super().run(tmp, task_vars)
        ours = HostInputs(self, task_vars)
        hosts = {
            host
            for role in ROLES.values()
            if role.reads_of_others
            for group in role.reads_groups
            for host in task_vars["groups"].get(group, [])
        }
        variables = {host: inputs.without_facts(task_vars["hostvars"].raw_get(host)) for host in sorted(hosts)}
        known = {name: {"groups": role.groups, "after": role.after} for name, role in ROLES.items()}
        result.update(
            roles=known,
            common=inputs.common_inputs(ROLES, task_vars["groups"], variables, core),
            files={name: self._paths(ours, name) for name in ROLES},
        )
        return result

    @staticmethod
    def _paths(ours: HostInputs, name: str) -> dict[str, Any]:
        """The files that this host runs a role with. Where they cannot be told, its own check says why, to it alone."""
        try:
            return ours.paths(name)
        except AnsibleError:
            return {"key": "", "paths": []}
