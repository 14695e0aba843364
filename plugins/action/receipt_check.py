# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which roles of a host are stale, in one exchange; documented in plugins/modules/receipt_check.py."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import exchange
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_run import is_partial

ARGUMENTS = {
    "inputs": {"type": "dict", "required": True},
    "host": {"type": "str", "required": True},
    "state_dir": {"type": "path", "default": "/var/lib/gpustead"},
    "force": {"type": "bool", "default": False},
    "group": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        roles = inputs.site_roles()
        mine = [name for name, role in roles.items() if set(role.groups) & set(task_vars["group_names"])]
        given = {name: {**args["inputs"]["common"][name], **self._host_inputs(roles[name], task_vars)} for name in mine}
        request = {"operation": "check", "state_dir": args["state_dir"], "host": args["host"], "roles": given}
        try:
            answer = exchange(self, task_vars, request)
        except AnsibleActionFail as error:  # no Python: the preflight of the hosts says what to do
            blind = {name: {"reasons": [["host", str(error)]], "drifted": []} for name in mine}
            answer = {"roles": blind, "left": [], "error": str(error)}
        stale = {name: verdict for name, verdict in answer["roles"].items() if verdict["reasons"]}
        if args["force"] or is_partial():
            reason = ["run", "site_force is set" if args["force"] else "only some of the tasks are asked for"]
            stale = {name: stale.get(name, {"reasons": [reason], "drifted": []}) for name in mine}
        if args["group"]:  # to be run, not reported
            stale.update(self._dependents(roles, mine, stale))
        findings = [
            {"role": name, "subject": subject, "what": what}
            for name in mine
            if name in stale
            for subject, what in stale[name]["reasons"]
        ]
        result.update(
            stale={name: {**stale[name], "inputs": given[name]} for name in mine if name in stale},
            findings=findings,
            left=answer["left"],
            readable="error" not in answer,
            host=args["host"],
            state_dir=args["state_dir"],
            force=args["force"],
            nonce=secrets.token_hex(16),
            partial=is_partial(),
            lines=[f"{found['role']}: {found['subject']}: {found['what']}" for found in findings],
        )
        if stale and args["group"]:
            result.update(self._join(args["group"], task_vars))
            self._display.display(f"{args['host']} is stale:\n  " + "\n  ".join(result["lines"]))
        return result

    def _host_inputs(self, role: inputs.Role, task_vars: dict[str, Any]) -> dict[str, str]:
        """What this host alone is run with. The files' names are rendered: with the role's own defaults."""
        files: list[str] = []
        if role.files:
            folder = inputs.COLLECTION / "roles" / role.name
            scope = dict(task_vars, role_path=str(folder))
            for name in ("defaults", "vars"):
                loaded = self._loader.load_from_file(str(folder / name / "main.yml"), trusted_as_template=True) or {}
                scope = {**loaded, **scope} if name == "defaults" else {**scope, **loaded}
            declared = self._loader.load_from_file(str(folder / "meta/receipt.yml"), trusted_as_template=True)["files"]
            rendered = self._templar.copy_with_new_env(available_variables=scope).template(declared)
            lists = [[entry] if isinstance(entry, str) else entry for entry in rendered]
            files = sorted({path for paths in lists for path in paths if path})
        return inputs.host_inputs(role, task_vars, files)

    @staticmethod
    def _dependents(
        roles: Mapping[str, inputs.Role], mine: list[str], stale: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """The roles that run again because one before them does."""
        found: dict[str, dict[str, Any]] = {}
        for name in mine:
            causes = [other for other in roles[name].after if other in stale or other in found]
            if causes and name not in stale:
                found[name] = {"reasons": [[f"role {cause}", "runs again"] for cause in causes], "drifted": []}
        return found

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
