"""The drift report: what differs, and what is to be done about it."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.drift_report import report

FINDING = {"role": "docker", "subject": "file /a", "what": "it is gone"}


def host(*findings: dict[str, str], left: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"findings": list(findings), "left": list(left), "state_dir": "/var/lib/gpustead"}


def test_hosts_as_their_roles_left_them_are_well() -> None:
    found = report({"gpu01": host()})
    assert found["ok"]
    assert found["lines"] == []


def test_drift_is_named_and_healed_by_the_site() -> None:
    found = report({"gpu01": host(FINDING), "gpu02": host()})
    assert found["findings"] == [{"host": "gpu01", **FINDING}]
    assert found["summary"] == "1 of 2 hosts differ (gpu01). Run site.yml to heal them."


def test_a_role_that_left_a_host_is_cleared_up_by_hand() -> None:
    found = report({"gpu01": host(left=("registry",))})
    (finding,) = found["findings"]
    assert finding["what"].endswith("what /var/lib/gpustead/receipts/registry.json lists, then that file")
    assert "site.yml to heal" not in found["summary"]
    assert "site.yml to heal" in report({"gpu01": host(FINDING, left=("registry",))})["summary"]


def test_a_host_that_cannot_be_looked_at_is_a_finding() -> None:
    found = report({"gpu01": {"unreachable": True, "msg": "no route"}, "gpu02": {"msg": "no\nPython"}})
    assert [finding["what"] for finding in found["findings"]] == [
        "it cannot be reached: no route",
        "it cannot be looked at: no Python",
    ]
