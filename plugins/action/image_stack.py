# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a stack in the background of the host and say what is reached; documented in plugins/modules/image_stack.py."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Progress

MODULE = "gpustead.cluster.image_stack"
LOOK = 5  # seconds that a look at what was reached waits on the host for something new
PATIENCE = 60  # seconds between two questions whether it still runs: those cost a module
QUIET = 30  # seconds without a line until one says what is worked on


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        plan = self._module(args, task_vars, check=True)
        # Where there is nothing to do, one call is all.
        if self._task.check_mode or plan.get("failed") or not plan.get("changed"):
            return {**result, **plan}
        return {**result, **self._build(args, task_vars)}

    def _module(self, args: dict[str, Any], task_vars: dict[str, Any], check: bool) -> dict[str, Any]:
        before, self._task.check_mode = self._task.check_mode, check
        try:
            answer: dict[str, Any] = self._execute_module(MODULE, module_args=args, task_vars=task_vars)
        finally:
            self._task.check_mode = before
        return answer

    def _build(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Start the module in the background, and follow its file of progress until it has ended."""
        made = self._low_level_execute_command("mktemp /run/gpustead-progress.XXXXXX")
        if made["rc"]:
            said = shown(made["stderr"].strip())
            remedy = "It builds as root: set become." if "ermission denied" in said else "See df and df -i of /run."
            raise AnsibleActionFail(f"image_stack: no file can be made in /run: {said}. {remedy}")
        path = shlex.quote(made["stdout"].strip())
        self._task.async_val = int(args.get("timeout", 7200))  # the module has seen that it is a number
        try:
            job: dict[str, Any] = self._execute_module(
                MODULE, module_args={**args, "progress": path}, task_vars=task_vars, wrap_async=True
            )
        finally:
            self._task.async_val = 0
        try:
            return self._follow(job["ansible_job_id"], path, task_vars) if "ansible_job_id" in job else job
        finally:
            self._low_level_execute_command(f"rm -f {path}")

    def _follow(self, job: str, path: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        progress = Progress(str(task_vars.get("inventory_hostname", "")), QUIET)
        known, asked = 0, time.monotonic()
        while True:
            new = self._look(path, known, 1 if progress.ended else LOOK * 5)
            known += len(new)
            for line in progress.lines(new, time.monotonic()):
                Display().display(line)
            if not progress.ended and time.monotonic() - asked < PATIENCE:
                continue
            status = self._status(job, task_vars)
            asked = time.monotonic()
            if status.get("finished") or status.get("failed"):
                if "results_file" in status:
                    self._low_level_execute_command(f"rm -f {shlex.quote(status['results_file'])}")
                return {
                    key: value for key, value in status.items() if key not in ("started", "finished", "results_file")
                }

    def _look(self, path: str, known: int, fifths: int) -> list[dict[str, Any]]:
        """The events after the first so many: as soon as there is one, or after so many fifths of a second."""
        count = f'[ "$(wc -l <{path})" -gt {known} ]'
        wait = f"for i in $(seq {fifths}); do {count} && break; sleep 0.2; done"
        text = self._low_level_execute_command(f"{wait}; tail -n +{known + 1} {path}")["stdout"]
        # The last line may be half written.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def _status(self, job: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        # As its own action does, whose option it is.
        args = {
            "jid": job, "mode": "status", "_async_dir": self.get_shell_option("async_dir", default="~/.ansible_async"),
        }  # fmt: skip
        answer: dict[str, Any] = self._execute_module(
            "ansible.builtin.async_status", module_args=args, task_vars=task_vars
        )
        return answer
