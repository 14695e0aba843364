# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Begin the run of a role or of several, or leave a role's receipt; documented in plugins/modules/receipt_write.py."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.partial_run import is_partial
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import exchange
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import ROLES, HostInputs

ARGUMENTS = {
    "state": {"type": "str", "choices": ["begun", "ended"], "default": "ended"},
    "roles": {"type": "list", "elements": "str", "default": []},
    "checked": {"type": "dict", "default": {}},
    "refused": {"type": "list", "elements": "dict", "default": []},
}

# What in the result of a check is for Ansible: a host joins a group once.
OF_ANSIBLE = frozenset({"add_group", "parent_groups"})


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        checked = args["checked"]
        self._ours = HostInputs(self, task_vars)
        self._python = str(self._ours.value("ansible_python_interpreter", "auto"))
        self._run = {
            "state_dir": checked.get("state_dir", "/var/lib/gpustead"),
            "nonce": checked.get("nonce", "none"),
        }
        if args["roles"]:
            roles = [name for name in args["roles"] if name in checked.get("stale", {})]
            # A run of some tasks only must not begin what it does not run: each role begins itself.
            folders = {name: Path(ROLES[name].variables["role_path"]) for name in roles}
            begun = {} if is_partial() or not roles else self._begin(folders, checked, task_vars)
            found = {name: value for name, value in checked.items() if name not in OF_ANSIBLE}
            return {**found, **result, "begun": begun}
        if self._task._role is None:
            raise AnsibleActionFail(
                "receipt_write: expected to stand in a role, whose receipt it writes. Move it there."
            )
        role, folder = self._task._role.get_name(include_role_fqcn=False), Path(self._task._role._role_path)
        if args["state"] == "begun":
            # Where it was begun with the others, nothing is left to do but to say what was found then.
            begun = checked.get("begun", {})
            result.update(begun[role] if role in begun else self._begin({role: folder}, checked, None)[role])
            return result
        return {**result, **self._end(role, folder, checked, args["refused"])}

    def _begin(
        self, folders: Mapping[str, Path], checked: Mapping[str, Any], task_vars: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Begin the runs of roles, in their order, in one exchange.

        Args:
            folders: of each role its folder.
            checked: what the check has returned.
            task_vars: the variables of a task that is in none of the roles; None where it is in the one that begins.
        """
        # Who runs a role from a playbook of their own has checked nothing.
        verdicts = checked.get("stale", {})
        roles = []
        for role, folder in folders.items():
            common = verdicts[role]["common"] if role in verdicts else None
            inputs = {} if common is None else {**common, **self._ours.of_role(role)}
            roles.append({"role": role, "inputs": inputs, "outputs": self._foreseen(role, folder, task_vars)})
        operation = "previous" if self._task.check_mode else "begin"
        answer = exchange(self, self._python, {**self._run, "operation": operation, "roles": roles})["roles"]
        return {
            role: {**answer[role], "drifted": verdicts[role]["drifted"] if role in verdicts else []} for role in folders
        }

    def _end(self, role: str, folder: Path, checked: Mapping[str, Any], entries: list[Any]) -> dict[str, Any]:
        """Leave the receipt of a role, or what it had to leave undone in its place."""
        verdict = checked.get("stale", {}).get(role)
        refused = [reason(entry) for entry in entries]
        result: dict[str, Any] = {"refused": [f"{role}: {subject}: {what}" for subject, what in refused]}
        request = {**self._run, "role": role}
        if self._task.check_mode:
            pass
        elif not verdict or is_partial() or refused:
            outputs = self._foreseen(role, folder, None)
            exchange(self, self._python, {**request, "operation": "end", "outputs": outputs, "refused": refused})
        else:
            request.update(operation="write", host=checked["host"], accept=checked["force"], **self._declared(folder))
            request["files"] = self._ours.files(role)
            answer = exchange(self, self._python, request)
            if answer["problems"]:
                raise AnsibleActionFail(self._complaint(role, answer["problems"], answer["acceptable"]))
            result["changed"] = answer["changed"]
            result["refused"] = [
                f"{role}: {shown(subject)}: {shown(what, 2000)}" for subject, what in answer["refused"]
            ]
        if refused and not verdict:
            raise AnsibleActionFail("\n- ".join([f"Role {role} has left undone:", *result["refused"]]))
        return result

    def _receipt(self, folder: Path) -> dict[str, Any]:
        """A role's meta/receipt.yml, as written."""
        receipt: dict[str, Any] = self._loader.load_from_file(
            str(folder / "meta/receipt.yml"), trusted_as_template=True
        )
        return receipt

    def _declared(self, folder: Path) -> dict[str, list[list[Any]]]:
        """What the role reads and leaves, rendered with all that the role knows at its end."""
        receipt = self._receipt(folder)
        return {part: specs(self._templar.template(receipt.get(part, {}))) for part in ("reads", "outputs")}

    def _foreseen(self, role: str, folder: Path, task_vars: Mapping[str, Any] | None) -> list[list[Any]]:
        """What the role leaves, as far as it is known: some of it a role only learns while it runs."""
        templar = self._templar
        if task_vars is not None:
            known = {**ROLES[role].defaults, **task_vars, **ROLES[role].variables}
            known["ansible_search_path"] = [str(folder), str(folder / "tasks"), self._loader.get_basedir()]
            templar = templar.copy_with_new_env(available_variables=known)
        result = []
        for kind, subjects in self._receipt(folder).get("outputs", {}).items():
            for subject in subjects:
                with contextlib.suppress(AnsibleError):
                    result += specs(templar.template({kind: [subject]}))
        return result

    @staticmethod
    def _complaint(role: str, problems: list[str], acceptable: bool) -> str:
        remedy = "Put right by hand what is named, remove there what is not declared any more, and run again."
        if acceptable:
            remedy = "Put it back by hand and run again; -e site_force=true accepts what is there now as right."
        return (
            "\n- ".join(
                [f"Role {role} has ended, but leaves no receipt:", *(shown(problem, 2000) for problem in problems)]
            )
            + f"\n{remedy}"
        )


def reason(refused: Mapping[str, Any]) -> list[str]:
    """What was refused, as a reason: [subject, what is the matter with it]."""
    return [
        shown(str(refused["name"])),
        shown(f"{refused['what']}: expected {refused['expected']}. {refused['remedy']}", 2000),
    ]


def specs(declared: dict[str, Any]) -> list[list[Any]]:
    """{kind: [name or {name, when, ...}]} as [[kind, subject], ...], without those whose `when` is false.

    A list in the place of a subject is a list of subjects: an expression may give several.
    """
    result = []
    for kind, subjects in declared.items():
        for entry in subjects or []:
            for subject in entry if isinstance(entry, list) else [entry]:
                options = {"name": subject} if isinstance(subject, str) else dict(subject)
                if options.pop("when", True):
                    result.append([kind, options])
    return result
