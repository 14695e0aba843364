# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Callback that shows how far a run is, what it waits for, and what came of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: A line for each step, what is waited for, and a table of hosts
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Says one line for each step of a run. A step is a play, or a role of a play that has several. The line has its
    number, how many hosts have done it, on how many of them it changed something, and how long it took.
  - What takes longer than some seconds is named, with the hosts that are waited for. A terminal shows that in a line
    that is taken back; elsewhere it comes as plain lines, ever less often.
  - A failure is told once, when it happens, with its reason and where its task stands. Hosts that fail for the same
    reason are named together. One that is ignored, or that a C(rescue) takes up, is told as just that.
  - Ends with a table of hosts, which names those to which the same happened together, and with what to do next.
  - Warnings, diffs and what tasks such as M(ansible.builtin.debug) say are shown. What comes from hosts is escaped, so
    that it can neither move the cursor nor pass for a line of this callback.
  - With C(-v), and for C(ansible) itself, everything is as with P(ansible.builtin.default#callback).
notes:
  - Of the options below those about hosts that are C(ok) or skipped count with C(-v) alone.
extends_documentation_fragment:
  - ansible.builtin.default_callback
  - ansible.builtin.result_format_callback
requirements:
  - set as stdout_callback in ansible.cfg
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  stdout_callback = gpustead.cluster.progress
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from ansible import context
from ansible.playbook.block import Block
from ansible.playbook.role_include import IncludeRole
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback import CallbackBase
from ansible.plugins.callback.default import CallbackModule as Usual
from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_progress import Line, RunProgress
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_screen import Screen
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_words import escaped, reasons, spoken

HERE = f"{os.getcwd()}/"
IN_STEP = ("ansible.builtin.linear", "linear")


class Progress(CallbackBase):
    """Tells the run what happens, and shows what it says."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "gpustead.cluster.progress"

    def __init__(self) -> None:
        super().__init__()
        self._run = RunProgress(monotonic())
        self._screen = Screen(self._display, self._run)
        self._items: dict[str, list[Any]] = {}  # of each host's loop those that failed

    @contextmanager
    def _event(self) -> Iterator[float]:
        with self._screen.lock:
            yield monotonic()

    def _show(self, lines: Sequence[Line]) -> None:
        self._screen.show(lines, self.get_option("display_failed_stderr"))

    # Steps

    def v2_playbook_on_start(self, playbook: Any) -> None:
        with self._event():
            self._run.playbook([play._uuid for play in playbook.get_plays()])
            if context.CLIARGS["check"]:
                self._show([Line("A dry run (--check): nothing is changed.")])

    def v2_playbook_on_vars_prompt(self, varname: str, **kwargs: Any) -> None:
        self._screen.stop()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        with self._event() as now:
            # Where hosts go on by themselves they are at several roles at once.
            phases = _roles(play) if play.strategy in IN_STEP else {}
            self._show(self._run.play(play._uuid, play.get_name().strip(), phases, now))
        self._screen.start()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        with self._event() as now:
            self._show(self._run.task(_name(task), _place(task), _role(task), now))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        with self._event() as now:
            self._show(self._run.told("", ["No host is left: the run ends here."], now))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._screen.stop()
        with self._event() as now:
            counts = {host: stats.summarize(host) for host in sorted(stats.processed)}
            self._show(self._run.finish(counts, context.CLIARGS["check"], now))
            if stats.custom and self.get_option("show_custom_stats"):
                self._show(self._run.told("", spoken({}, self._dump_results(stats.custom)), now))

    # Hosts

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with self._event() as now:
            self._items.pop(host.get_name(), None)
            self._run.begun(host.get_name(), _name(task), now)

    def v2_runner_retry(self, result: Any) -> None:
        with self._event():
            self._run.tried(result.host.get_name(), result.result["attempts"], result.result["retries"])

    def v2_runner_on_ok(self, result: Any) -> None:
        with self._event() as now:
            self._handle_warnings(result.result)
            if not result.task.loop:
                self._speak(result, now)
            outcome = "changed" if result.is_changed() else "unchanged"
            self._run.ended(result.host.get_name(), "" if isinstance(result.task, TaskInclude) else outcome)

    def v2_runner_on_skipped(self, result: Any) -> None:
        with self._event():
            self._handle_warnings(result.result)
            self._run.ended(result.host.get_name())

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        how = "ignored" if ignore_errors else "rescued" if _rescued(result.task) else "failed"
        self._fail(result, how, "failed" if how == "failed" else "unchanged")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        how = "ignored" if result.task.ignore_unreachable else "unreachable"
        self._fail(result, how, "unreachable" if how == "unreachable" else "")

    def v2_runner_item_on_ok(self, result: Any) -> None:
        with self._event() as now:
            self._handle_warnings(result.result)
            self._speak(result, now)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        # Told with the task, when it is known whether that matters.
        with self._event():
            self._handle_warnings(result.result)
            self._items.setdefault(result.host.get_name(), []).append(result.result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        with self._event():
            self._handle_warnings(result.result)

    def v2_on_file_diff(self, result: Any) -> None:
        items = result.result.get("results", []) if result.task.loop else [result.result]
        with self._event() as now:
            for item in items:
                if item.get("diff") and item.get("changed"):
                    lines = self._get_diff(escaped(item["diff"])).strip("\n")
                    if lines:
                        self._show(self._run.diff(result.host.get_name(), lines.split("\n"), now))

    def _handle_warnings(self, res: Any) -> None:
        self._screen.escaping = True  # a host may have put anything into them
        try:
            super()._handle_warnings(res)
        finally:
            self._screen.escaping = False

    def _fail(self, result: Any, how: str, outcome: str) -> None:
        with self._event() as now:
            self._handle_warnings(result.result)
            host = result.host.get_name()
            said = reasons(result.result, self._items.get(host, []))
            self._show(self._run.failed(host, how, said, bool(result.task.run_once), now))
            self._run.ended(host, outcome)

    def _speak(self, result: Any, now: float) -> None:
        """What debug and the like have to say."""
        if self._run_is_verbose(result) and not isinstance(result.task, TaskInclude):
            found = dict(result.result)
            self._clean_results(found, result.task.action)
            lines = spoken(found, self._dump_results(found))
            host = "" if result.task.run_once else result.host.get_name()
            self._show(self._run.told(host, lines, now))


def _name(task: Any) -> str:
    """The name without that of its role, which is in the line of the step."""
    return str(task.name or task.action).strip()


def _place(task: Any) -> str:
    """The file and the line, from here or from the collections."""
    return re.sub(r".*/ansible_collections/", "", str(task.get_path() or "")).removeprefix(HERE)


def _role(task: Any) -> str:
    """The role of the play that a task belongs to, also where that role has included another one."""
    chain = task.get_dep_chain()
    role = chain[0] if chain else task._role
    return str(role.get_name()) if role else ""


def _roles(play: Any) -> dict[str, str]:
    """The roles that a play names and the tags of the run select, in their order, with what their steps are called."""
    found = {role.get_name(): role.get_name(False) for role in play.roles if not role.from_include}
    for item in _tasks([*play.pre_tasks, *play.tasks, *play.post_tasks]):
        if _role(item):
            found.setdefault(_role(item), item._role.get_name(False))
        elif isinstance(item, IncludeRole) and item.evaluate_tags(play.only_tags, play.skip_tags, {}):
            found.setdefault(item._role_name, item.name or item._role_name.rpartition(".")[2])
    return found


def _tasks(blocks: Sequence[Any]) -> Iterator[Any]:
    for one in blocks:
        if isinstance(one, Block):
            yield from _tasks([*one.block, *one.rescue, *one.always])
        else:
            yield one


def _rescued(task: Any) -> bool:
    """Whether a `rescue` takes up the failure of this task: it, or what included it, stands in the part before that."""
    child, parent = task, task._parent
    while parent is not None:
        if isinstance(parent, Block) and parent.rescue and any(one._uuid == child._uuid for one in parent.block):
            return True
        child, parent = parent, parent._parent
    return False


# With -v, and where no playbook is run, all is as Ansible has it.
_SHOWN: Any = Usual if Display().verbosity or "module_name" in context.CLIARGS else Progress


class CallbackModule(_SHOWN):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "gpustead.cluster.progress"
