# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge the inventory, or what the hosts answered, on the controller."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils import preflight

CLUSTER = ("gpu_nodes", "nas_server", "registry")


class ActionModule(ActionBase):
    """The action; fails with every problem, a line for each."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset({"answers"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        scope = task_vars or {}
        answers = self._task.args.get("answers")
        if answers is None:
            groups = {name: list(hosts) for name, hosts in scope["groups"].items()}
            members = {host for name in CLUSTER for host in groups.get(name, [])}
            values = {host: self._values(scope["hostvars"][host]) for host in members}
            problems = preflight.check(groups, values)
        else:
            problems = [line for host, text in answers.items() for line in preflight.check_host(host, str(text))]
        result.update(changed=False, question=preflight.QUESTION)
        if problems:
            many = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
            result.update(
                failed=True, msg=f"{many}, nothing was changed:\n" + "\n".join(f"- {line}" for line in problems)
            )
        return result

    @staticmethod
    def _values(variables: Any) -> dict[str, Any]:
        """The values of those variables that are set and needed."""
        return {name: variables[name] for name in preflight.NAMES if name in variables}
