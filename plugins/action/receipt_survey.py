# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which roles of which hosts are stale, all hosts at once; documented in plugins/modules/receipt_survey.py."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_fan_out import FanOut, at_once
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_check import HostCheck, explained
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import HostInputs, shared_inputs
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import Kept

ARGUMENTS = {
    "force": {"type": "bool", "default": False},
    "to_run": {"type": "bool", "default": False},
}
Asked = tuple[HostCheck, Future[dict[str, Any]]]


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._kept = Kept()
        shared = shared_inputs(HostInputs(self, task_vars, self._kept))
        fan_out, asked = FanOut(self), {}
        with ThreadPoolExecutor(at_once()) as pool:
            for host in task_vars["ansible_play_hosts"]:
                asked[host] = self._ask(host, {**task_vars, "inventory_hostname": host}, shared, fan_out, pool)
        found = {host: self._result(host, given, args) for host, given in asked.items()}
        hosts = {host: of_host for host, of_host in found.items() if of_host}
        result.update(
            inputs=shared,
            hosts=hosts,
            stale=[host for host, of_host in hosts.items() if of_host["stale"]],
            unasked=[host for host, of_host in found.items() if not of_host],
        )
        if args["to_run"]:
            self._tell(result)
        return result

    def _tell(self, result: dict[str, Any]) -> None:
        """Hosts with nothing to do have no task of their own: what was found is said here."""
        hosts, stale, unasked = result["hosts"], result["stale"], result["unasked"]
        for host in stale:
            self._display.display(explained(host, hosts[host]))
        self._display.display(f"{len(hosts) - len(stale)} of {len(hosts)} hosts are as their roles left them")
        if unasked:
            self._display.display(f"asked one by one next: {', '.join(unasked)}")

    def _ask(
        self, host: str, variables: dict[str, Any], shared: dict[str, Any], fan_out: FanOut, pool: Executor
    ) -> Asked | None:
        """Ask a host; None where that is Ansible's."""
        try:
            ours = HostInputs(self, variables, self._kept)
            check = HostCheck(ours, shared)
            action = fan_out.to(host, {**ours.given, "hostvars": ours.hostvars})
            return (check, pool.submit(check.ask, action)) if action else None
        except Exception as error:
            self._leave(host, error)
            return None

    def _result(self, host: str, asked: Asked | None, args: dict[str, Any]) -> dict[str, Any] | None:
        if not asked:
            return None
        check, answer = asked
        try:
            return check.result(answer.result(), args["force"], following=args["to_run"])
        except Exception as error:
            self._leave(host, error)
            return None

    def _leave(self, host: str, error: Exception) -> None:
        """No trouble with one host may stop the others: the host's own task has it again, and Ansible reports it."""
        self._display.vvv(f"left to Ansible: {error}", host=host)
