"""The drift report: what differs, and what is to be done about it."""

from __future__ import annotations

from typing import Any

import pytest
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


SILENT = {"unreachable": True, "msg": "no route"}


@pytest.mark.parametrize(
    ("results", "summary"),
    [
        (
            {f"gpu0{number}": SILENT for number in range(1, 4)},
            "3 of 3 hosts could not be looked at (gpu01, gpu02, gpu03): whether they differ is not known.",
        ),
        (
            {"gpu01": SILENT, "gpu02": host(), "gpu03": {"msg": "it dropped out of the run"}},
            "1 hosts as their roles left them, and as the inventory has them. 2 of 3 hosts could not be looked at"
            " (gpu01, gpu03): whether they differ is not known.",
        ),
        (
            {"gpu01": SILENT, "gpu02": host(FINDING), "gpu03": host()},
            "1 of 2 hosts differ (gpu02). Run site.yml to heal them. 1 of 3 hosts could not be looked at (gpu01):"
            " whether they differ is not known.",
        ),
        (
            {"gpu01": SILENT, "gpu02": host(left=("registry",))},
            "1 of 1 hosts differ (gpu02). Clear up by hand what is named. 1 of 2 hosts could not be looked at (gpu01):"
            " whether they differ is not known.",
        ),
    ],
)
def test_a_host_of_which_nothing_is_known_is_no_drift(results: dict[str, Any], summary: str) -> None:
    found = report(results)
    assert found["summary"] == f"{summary} See why below, put that right, and run again."
    assert not found["ok"]
    assert (set(found["differ"]), set(found["unknown"])) == (
        {name for name, result in results.items() if result.get("findings") or result.get("left")},
        {name for name, result in results.items() if "findings" not in result},
    )


def test_no_host_is_none_that_differs() -> None:
    assert report({})["summary"] == "0 hosts as their roles left them, and as the inventory has them"
