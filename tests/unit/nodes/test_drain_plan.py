# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody asks for who drains a node, and what it has come to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.drain_plan import plan
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.drain_report import report

NODES = ["gpu01", "gpu02"]
NOON = 1796040000.0  # 2026-11-30T12:00:00Z


@pytest.mark.parametrize(
    ("asked", "seconds", "until", "told"),
    [
        ({}, 0, "", "gpu02 takes no new runs: maintenance."),
        (
            {"deadline": "2h", "reason": "new driver"},
            7200,
            "2026-11-30T14:00:00Z",
            "gpu02 takes no new runs: new driver. What runs there has until 2026-11-30T14:00:00Z.",
        ),
        (
            {"deadline": "5s", "stop": True},
            5,
            "2026-11-30T12:00:05Z",
            "gpu02 takes no new runs: maintenance. What runs there has until 2026-11-30T12:00:05Z, and is ended then.",
        ),
    ],
)
def test_plan(asked: dict[str, Any], seconds: int, until: str, told: str) -> None:
    found = plan("gpu02", NODES, NOON, **asked)
    assert (found.since, found.seconds, found.until, found.told) == ("2026-11-30T12:00:00Z", seconds, until, told)
    assert found.looks == seconds // 10 + 1


@pytest.mark.parametrize(
    ("node", "asked", "said"),
    [
        ("", {}, "no node is named: expected one of gpu01, gpu02. Name it with -e node=NAME."),
        ("gpu2", {}, "node 'gpu2' is not in gpu_nodes: expected one of gpu01, gpu02"),
        ("gpu02", {"deadline": "90"}, "deadline '90': expected a time such as 30m"),
        ("gpu02", {"deadline": "0m"}, "deadline '0m'"),
        ("gpu02", {"deadline": "8d"}, "deadline '8d'"),
        ("gpu02", {"deadline": "-1h"}, "deadline '-1h'"),
        ("gpu02", {"stop": True}, "stop without a deadline"),
        ("gpu02", {"reason": "a\x1b[2J"}, "reason 'a"),
        ("gpu02", {"reason": "x" * 201}, "one line of up to 200 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(node: str, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(GpusteadError, match=re.escape(said)):
        plan(node, NODES, NOON, **asked)


PLAN = {"node": "gpu02", "reason": "new driver", "seconds": 0}
WAITED = {**PLAN, "seconds": 60}
RUN = ["run a of ada"]


@pytest.mark.parametrize(
    ("asked", "found", "silent", "ok", "said"),
    [
        (PLAN, {"lines": []}, [], True, "nothing runs there"),
        (PLAN, {"lines": RUN}, [], True, "- run a of ada"),
        (WAITED, {"lines": RUN, "failed": True}, [], False, "this still runs there after the deadline:"),
        (WAITED, {"lines": RUN, "left": []}, [], True, "nothing runs there"),
        (WAITED, {"lines": RUN, "left": ["run b"]}, [], False, "- run b"),
        (WAITED, {"lines": RUN, "skipped": True}, [], False, "- run a of ada"),
        (PLAN, {}, ["gpu02"], True, "it does not answer: what runs there is not known"),
        (WAITED, {}, ["gpu02"], False, "it does not answer"),  # whoever waits goes on with its hardware next
        (WAITED, {"unreachable": True, "msg": "gone"}, [], False, "it does not answer"),
        (PLAN, {"msg": "the mesh\x1b is away"}, [], False, "could not be looked at: the mesh\\x1b is away"),
        (PLAN, {"lines": []}, ["gpu03"], True, "see it on the share when they are back: gpu03"),
    ],
)
def test_report(asked: dict[str, Any], found: dict[str, Any], silent: list[str], ok: bool, said: str) -> None:
    told = report(asked, found, silent)
    assert told.ok is ok
    assert told.lines[0] == "gpu02 is drained: new driver"
    assert any(said in line for line in told.lines), told.lines
