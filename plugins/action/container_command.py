# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a command in a container and say what it says; documented in plugins/modules/container_command.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Said
from ansible_collections.gpustead.cluster.plugins.plugin_utils.followed import FollowedAction

MODULE = "gpustead.cluster.container_command"


class ActionModule(FollowedAction):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if self._task.check_mode or not args.get("follow"):
            return {**result, **self._execute_module(MODULE, module_args=args, task_vars=task_vars)}
        words = Said(str(task_vars.get("inventory_hostname", "")))
        seconds = int(args.get("timeout", 86400))
        return {**result, **self._follow_module(MODULE, args, seconds, words, task_vars)}
