# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An action that runs its module in the background of the host and says what it has reached."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

LOOK = 5  # seconds that a look at what was reached waits on the host for something new
PATIENCE = 60  # seconds between two questions whether it still runs: those cost a module


class Words(Protocol):
    """Turns events of a module into lines; `ended` is whether the last one was seen, after which it only answers."""

    @property
    def ended(self) -> bool: ...

    def lines(self, events: Sequence[Mapping[str, Any]], now: float) -> list[str]: ...


class FollowedAction(ActionBase):
    """Of a module with an option `progress`: a file that gets what it reaches, see `files.progress_file`."""

    def _follow_module(
        self, module: str, args: Mapping[str, Any], seconds: int, words: Words, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Start the module in the background, and say what it has reached until it has ended.

        Args:
            module: its full name.
            args: what it is run with.
            seconds: that it has.
            words: for what it reaches.
            task_vars: as Ansible gives them.
        """
        made = self._low_level_execute_command("mktemp /run/gpustead-progress.XXXXXX")
        if made["rc"]:
            said = shown(made["stderr"].strip())
            remedy = "It needs root: set become." if "ermission denied" in said else "See df and df -i of /run."
            raise AnsibleActionFail(f"{module}: no file can be made in /run: {said}. {remedy}")
        path = shlex.quote(made["stdout"].strip())
        self._task.async_val = seconds
        try:
            job: dict[str, Any] = self._execute_module(
                module, module_args={**args, "progress": path}, task_vars=task_vars, wrap_async=True
            )
        finally:
            self._task.async_val = 0
        try:
            return self._follow(job["ansible_job_id"], path, words, task_vars) if "ansible_job_id" in job else job
        finally:
            self._low_level_execute_command(f"rm -f {path}")

    def _follow(self, job: str, path: str, words: Words, task_vars: dict[str, Any]) -> dict[str, Any]:
        known, asked = 0, time.monotonic()
        while True:
            new = self._look(path, known, 1 if words.ended else LOOK * 5)
            known += len(new)
            for line in words.lines(new, time.monotonic()):
                Display().display(line)
            if not words.ended and time.monotonic() - asked < PATIENCE:
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
