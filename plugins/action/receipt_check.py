# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which roles of a host are stale, in one exchange; documented in plugins/modules/receipt_check.py."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import exchange
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host import ROLES, HostInputs
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
        mine = [name for name, role in ROLES.items() if set(role.groups) & set(task_vars["group_names"])]
        common, ours = args["inputs"]["common"], HostInputs(self, task_vars)
        files = args["inputs"]["files"]
        given = {name: {**common[name], **ours.of_role(name, files[name])} for name in mine}
        answer = self._ask(args, task_vars, given)
        stale = self._stale(args, mine, answer["roles"])
        findings = [
            {"role": name, "subject": subject, "what": what}
            for name, verdict in stale.items()
            for subject, what in verdict["reasons"]
        ]
        result.update(
            # Digests of this host's own variables are not told: a short secret could be guessed from one.
            stale={name: {**verdict, "common": common[name]} for name, verdict in stale.items()},
            findings=findings,
            lines=[f"{found['role']}: {found['subject']}: {found['what']}" for found in findings],
            left=answer["left"],
            readable=answer["readable"],
            host=args["host"],
            state_dir=args["state_dir"],
            force=args["force"],
            nonce=secrets.token_hex(16),
            partial=is_partial(),
        )
        if stale and args["group"]:
            result.update(self._join(args["group"], task_vars))
            self._display.display(f"{args['host']} is stale:\n  " + "\n  ".join(result["lines"]))
        return result

    def _ask(self, args: dict[str, Any], task_vars: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """The host's answer. One that cannot give any (no Python) is left to the preflight, which says what to do."""
        request = {"operation": "check", "state_dir": args["state_dir"], "host": args["host"], "roles": given}
        try:
            return {**exchange(self, task_vars, request), "readable": True}
        except AnsibleActionFail as error:
            blind = {"reasons": [["host", str(error)]], "drifted": []}
            return {"roles": dict.fromkeys(given, blind), "left": [], "readable": False}

    @staticmethod
    def _stale(args: dict[str, Any], mine: list[str], verdicts: Mapping[str, Any]) -> dict[str, Any]:
        """The roles to run, each with reasons; those that only run because another does are not reported as drift."""
        stale = {name: verdicts[name] for name in mine if verdicts[name]["reasons"]}
        if args["force"] or is_partial():
            reason = ["run", "site_force is set" if args["force"] else "only some of the tasks are asked for"]
            stale = {name: stale.get(name, {"reasons": [reason], "drifted": []}) for name in mine}
        for name in mine if args["group"] else []:
            causes = [other for other in ROLES[name].after if other in stale]
            if causes and name not in stale:
                stale[name] = {"reasons": [[f"role {cause}", "runs again"] for cause in causes], "drifted": []}
        return stale

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
