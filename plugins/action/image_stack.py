# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a stack in the background of the host and say what is reached; documented in plugins/modules/image_stack.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Progress
from ansible_collections.gpustead.cluster.plugins.plugin_utils.followed import FollowedAction

MODULE = "gpustead.cluster.image_stack"
QUIET = 30  # seconds without a line until one says what is worked on


class ActionModule(FollowedAction):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        plan = self._module(args, task_vars, check=True)
        # Where there is nothing to do, one call is all.
        if self._task.check_mode or plan.get("failed") or not (plan.get("changed") or plan.get("unasked")):
            return {**result, **plan}
        if not plan.get("changed"):
            return {**result, **self._module(args, task_vars, check=False)}
        words = Progress(str(task_vars.get("inventory_hostname", "")), QUIET)
        seconds = int(args.get("timeout", 7200))  # the module has seen that it is a number
        return {**result, **self._follow_module(MODULE, args, seconds, words, task_vars)}

    def _module(self, args: dict[str, Any], task_vars: dict[str, Any], check: bool) -> dict[str, Any]:
        before, self._task.check_mode = self._task.check_mode, check
        try:
            answer: dict[str, Any] = self._execute_module(MODULE, module_args=args, task_vars=task_vars)
        finally:
            self._task.check_mode = before
        return answer
