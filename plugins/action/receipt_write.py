# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Begin a role's run, or leave its receipt; documented in plugins/modules/receipt_write.py."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import exchange
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host import HostInputs
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_run import is_partial

ARGUMENTS = {
    "state": {"type": "str", "choices": ["begun", "ended"], "default": "ended"},
    "checked": {"type": "dict", "default": {}},
    "refused": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task._role is None:
            raise AnsibleActionFail(
                "receipt_write: expected to stand in a role, whose receipt it writes. Move it there."
            )
        role = self._task._role.get_name(include_role_fqcn=False)
        checked = args["checked"]
        # Who runs a role from a playbook of their own has checked nothing.
        verdict = checked.get("stale", {}).get(role)
        refused = [reason(entry) for entry in args["refused"]]
        result.update(previous=[], seen={}, unfinished=False, drifted=verdict["drifted"] if verdict else [])
        result["refused"] = [f"{role}: {subject}: {what}" for subject, what in refused]
        ours = HostInputs(self, task_vars)
        python = str(ours.value("ansible_python_interpreter", "auto"))
        request = {
            "state_dir": checked.get("state_dir", "/var/lib/gpustead"),
            "role": role,
            "nonce": checked.get("nonce", "none"),
        }
        if args["state"] == "begun":
            request["operation"] = "previous" if self._task.check_mode else "begin"
            request["inputs"] = {**verdict["common"], **ours.of_role(role)} if verdict else {}
            request["outputs"] = self._foreseen()
            result.update(exchange(self, python, request))
        elif self._task.check_mode:
            pass
        elif not verdict or is_partial() or refused:
            exchange(self, python, {**request, "operation": "end", "outputs": self._foreseen(), "refused": refused})
        else:
            request.update(operation="write", host=checked["host"], accept=checked["force"], **self._declared())
            request["files"] = ours.files(role)
            answer = exchange(self, python, request)
            if answer["problems"]:
                raise AnsibleActionFail(self._complaint(role, answer["problems"], answer["acceptable"]))
            result["changed"] = answer["changed"]
            result["refused"] = [
                f"{role}: {shown(subject)}: {shown(what, 2000)}" for subject, what in answer["refused"]
            ]
        if refused and not verdict:
            raise AnsibleActionFail("\n- ".join([f"Role {role} has left undone:", *result["refused"]]))
        return result

    def _receipt(self) -> dict[str, Any]:
        """The role's meta/receipt.yml, as written."""
        path = Path(self._task._role._role_path) / "meta/receipt.yml"
        receipt: dict[str, Any] = self._loader.load_from_file(str(path), trusted_as_template=True)
        return receipt

    def _declared(self) -> dict[str, list[list[Any]]]:
        """What the role reads and leaves, rendered with all that the role knows at its end."""
        receipt = self._receipt()
        return {part: specs(self._templar.template(receipt.get(part, {}))) for part in ("reads", "outputs")}

    def _foreseen(self) -> list[list[Any]]:
        """What the role leaves, as far as it is known: some of it a role only learns while it runs."""
        result = []
        for kind, subjects in self._receipt().get("outputs", {}).items():
            for subject in subjects:
                with contextlib.suppress(AnsibleError):
                    result += specs(self._templar.template({kind: [subject]}))
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
