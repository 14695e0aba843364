# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report that verify left, read again; and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.last_report import (
    LastReport,
    SeenGpus,
    read_report,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_report import report

AT, HERE = "2026-11-29T13:04:01Z", ["/srv/cluster/inventory/prod"]
LOST = {"subject": "GPUs", "what": "are degraded", "remedy": "Look."}


def gpus(state: str, **models: int) -> dict[str, Any]:
    return {"seen": {"gpus": {"state": state, "models": models}}, "problems": []}


RESULTS: dict[str, dict[str, Any]] = {
    "a": {**gpus("ready", L40S=8), "notices": [{"subject": "x", "what": "ends", "remedy": "Renew it."}]},
    "b": {**gpus("degraded", L40S=1, L4=2), "problems": [LOST, LOST]},
    "c": {"unreachable": True, "msg": "no route"},
    "d": gpus("none"),
    "nas": {"seen": {}, "problems": []},
}


def test_what_verify_writes_is_read() -> None:
    written = report(RESULTS, AT, HERE)
    assert read_report(json.dumps(written), HERE) == LastReport(
        at=AT,
        summary="3 problems on 5 hosts",
        problems=written["lines"],
        notices=["soon, a: x ends. Renew it."],
        ill={"b": 2, "c": 1},
        seen=["a", "b", "d", "nas"],
        gpus={
            "a": SeenGpus(8, "8 \N{MULTIPLICATION SIGN} L40S"),
            "b": SeenGpus(3, "1 \N{MULTIPLICATION SIGN} L40S, 2 \N{MULTIPLICATION SIGN} L4, degraded"),
            "d": SeenGpus(0, "no GPU"),
        },
    )


def test_hosts_that_differ_are_all_ill() -> None:
    image = {name: {"seen": {"image": value}, "problems": []} for name, value in zip("abcd", "xxyy")}
    found = read_report(json.dumps(report(image, AT, HERE)), HERE)
    assert [found.state(host) for host in "abcde"] == ["ill", "ill", "well", "well", "unknown"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"ok": true}',
        json.dumps(report(RESULTS, AT, ["/srv/cluster/inventory/lab"])),
        json.dumps({**report(RESULTS, AT, HERE), "hosts": []}) + "}",
        json.dumps({**report(RESULTS, AT, HERE), "hosts": {"a": {"gpus": 8}}}),
        json.dumps({**report(RESULTS, AT, HERE), "problems": [{"host": 1}]}),
    ],
)
def test_what_is_no_report_of_this_inventory_says_nothing(text: str) -> None:
    assert read_report(text, HERE) == LastReport()


def test_what_hosts_call_their_gpus_is_shown_safely() -> None:
    name = "\x1b[2J\u202eH100"
    (found,) = read_report(json.dumps(report({"a": gpus("ready", **{name: 1})}, AT, HERE)), HERE).gpus.values()
    assert found.text == "1 \N{MULTIPLICATION SIGN} \\x1b[2J\\u202eH100"
