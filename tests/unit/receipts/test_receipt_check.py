"""What a run makes of a host's answer: which roles it runs, and why."""

from __future__ import annotations

from typing import Any

import pytest
from ansible import context
from ansible.utils.context_objects import CLIArgs
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_check import HostCheck, explained
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import ROLES

GPU_NODE = [name for name, role in ROLES.items() if "gpu_nodes" in role.groups]
FORCED = [["run", "site_force is set"]]
PART = [["run", "only some of the tasks are asked for"]]
DRIFTED = {"reasons": [["file /etc/docker/daemon.json", "mode was 0644, is 0600"]], "drifted": ["daemon"]}


class Inputs:
    """Those of a GPU node with nothing but defaults."""

    host, given = "gpu01", {"group_names": ["gpu_nodes"]}

    def value(self, _name: str, default: Any) -> Any:
        return default

    def of_role(self, _name: str) -> dict[str, str]:
        return {}

    def current(self, _name: str) -> list[Any]:
        return []


@pytest.fixture
def check() -> HostCheck:
    # In place of HostInputs, of which the check takes these and nothing else.
    return HostCheck(Inputs(), {"common": {name: {} for name in ROLES}})  # type: ignore[arg-type]


def found(check: HostCheck, force: bool, following: bool, **stale: Any) -> dict[str, Any]:
    fresh: dict[str, Any] = {name: {"reasons": [], "drifted": []} for name in GPU_NODE}
    answer = {"roles": {**fresh, **stale}, "left": [], "readable": True}
    result = check.result(answer, force, following)["stale"]
    return {name: verdict["reasons"] for name, verdict in result.items()}


def test_nothing_runs_where_all_is_fresh(check: HostCheck) -> None:
    assert found(check, force=False, following=True) == {}


def test_a_forced_run_is_of_every_role_and_keeps_what_was_found(check: HostCheck) -> None:
    forced = dict.fromkeys(GPU_NODE, FORCED)
    assert found(check, force=True, following=True) == forced
    assert found(check, force=True, following=True, docker=DRIFTED) == {**forced, "docker": DRIFTED["reasons"]}


def test_part_of_a_run_asks_no_receipt(check: HostCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs({"tags": ["docker"]}))
    assert found(check, force=False, following=True) == dict.fromkeys(GPU_NODE, PART)


def test_roles_that_stand_on_a_stale_one_run_too_and_are_no_drift(check: HostCheck) -> None:
    followers = {name for name in GPU_NODE if "docker" in ROLES[name].after}
    run = found(check, force=False, following=True, docker=DRIFTED)
    assert followers
    assert followers < set(run)
    assert all(run[name] == [["role docker", "runs again"]] for name in followers)
    assert found(check, force=False, following=False, docker=DRIFTED) == {"docker": DRIFTED["reasons"]}


def test_roles_of_a_fresh_host_say_once_that_they_have_not_run() -> None:
    missing = {"subject": "receipt", "what": "it has not run here"}
    changed = {"subject": "variable cluster_users", "what": "changed"}
    findings = [{"role": "base", **missing}, {"role": "nas", **missing}]
    findings += [{"role": "accounts", **changed}, {"role": "workspace", **changed}]
    assert explained("gpu01", {"findings": findings}).splitlines() == [
        "gpu01 is stale:",
        "  base, nas: receipt: it has not run here",
        "  accounts: variable cluster_users: changed",
        "  workspace: variable cluster_users: changed",
    ]
