# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a compose project, and prove its GPUs; documented in plugins/modules/compose_project.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.plugins.action import ActionBase

COMPOSE, PROOF = "community.docker.docker_compose_v2", "gpustead.cluster.gpu_proof"
HOLDERS = "gpustead.cluster.port_holders"
ARGUMENTS = {
    "project": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "str", "default": ["compose.yml"]},
    "profiles": {"type": "list", "elements": "str", "default": []},
    "recreate": {"type": "list", "elements": "str", "default": []},
    "services": {"type": "list", "elements": "str", "required": True},
    "uuids": {"type": "list", "elements": "str", "default": []},
    "user": {"type": "str", "default": ""},
    "ports": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 120},
}


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._args, self._variables = args, task_vars or {}
        result.update(changed=False, actions=[])
        # Compose itself looks at the files it wrote, not at what was made of a container since.
        if args["recreate"] and not self._task.check_mode and self._up(result, args["recreate"]).get("failed"):
            return result
        if self._up(result).get("failed") or not args["uuids"] or self._task.check_mode:
            return result
        # A container may have been started before the driver, or have lost its GPUs since.
        lacking = self._prove(result, args["services"], required=False).get("lacking")
        if lacking and not self._up(result, lacking).get("failed"):
            self._prove(result, lacking, required=True)
        return result

    def _up(self, result: dict[str, Any], recreate: Sequence[str] = ()) -> dict[str, Any]:
        """Start all services, or recreate some."""
        which = {"services": recreate, "recreate": "always"} if recreate else {"remove_orphans": True}
        arguments = {
            "project_src": self._args["directory"],
            "files": self._args["files"],
            "profiles": self._args["profiles"],
            "pull": "never",
            "wait": True,
            "wait_timeout": self._args["timeout"],
        }
        answer = self._on_host(COMPOSE, {**arguments, **which}, result)
        result["changed"] |= bool(answer.get("changed"))
        result["actions"] += answer.get("actions", [])
        if answer.get("failed") and self._args["ports"] and not self._task.check_mode:
            self._name_holders(result)
        return answer

    def _name_holders(self, result: dict[str, Any]) -> None:
        """Docker says that an address is in use, and not by whom: any account may have got a port since it was free."""
        asked = {"ports": self._args["ports"], "remedy": "choose another port"}
        answer = self._execute_module(module_name=HOLDERS, module_args=asked, task_vars=self._variables)
        if answer.get("failed"):
            result["msg"] = f"{result.get('msg', '')} {answer.get('msg', '')}".strip()

    def _prove(self, result: dict[str, Any], services: Sequence[str], required: bool) -> dict[str, Any]:
        """Ask as the owner would ask."""
        asked = {"project": self._args["project"], "services": services, "uuids": self._args["uuids"]}
        return self._on_host(PROOF, {**asked, "user": self._args["user"], "required": required}, result)

    def _on_host(self, module: str, arguments: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=self._variables
        )
        if answer.get("failed"):
            result.update({name: answer[name] for name in ("failed", "msg", "stderr", "exception") if name in answer})
        return answer
