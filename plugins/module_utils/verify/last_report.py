# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verify.yml saw when it last ran, from the report that it left on the controller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

LONGEST = 500  # characters of a problem


@dataclass(frozen=True)
class SeenGpus:
    """The GPUs of a node. `text`: as people call them."""

    count: int
    text: str


@dataclass(frozen=True)
class LastReport:
    """The report, as far as it is known.

    Attributes:
        at: when it was written, in UTC, as 2026-11-29T13:04:01Z; empty: there is none of this inventory.
        summary: one line.
        problems: a line for each host and problem.
        notices: what will be a problem.
        ill: number of problems of each host that has any.
        seen: the hosts that were looked at.
        gpus: of the hosts where they are known.
    """

    at: str = ""
    summary: str = ""
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    ill: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    gpus: dict[str, SeenGpus] = field(default_factory=dict)

    def state(self, host: str) -> str:
        """`ill`, `well`, or `unknown` where nobody looked."""
        return "ill" if host in self.ill else "well" if host in self.seen else "unknown"


def read_report(text: str, inventory: Sequence[str]) -> LastReport:
    """The report in the text of its file. One of another inventory, or that cannot be read, is none.

    Args:
        inventory: the sources of the inventory of this run.
    """
    try:
        report = json.loads(text)
        if report["inventory"] != list(inventory):
            return LastReport()
        return _read(report)
    except (ValueError, TypeError, KeyError, AttributeError):  # there is none, it is of another release, or damaged
        return LastReport()


def _read(report: Mapping[str, Any]) -> LastReport:
    ill: dict[str, int] = {}
    for problem in report["problems"]:
        for host in problem["host"].split(", "):
            ill[host] = ill.get(host, 0) + 1
    return LastReport(
        at=shown(report["at"]),
        summary=shown(report["summary"]),
        problems=[shown(line, LONGEST) for line in report["lines"]],
        notices=[shown(line, LONGEST) for line in report["notices"]],
        ill=ill,
        seen=list(report["hosts"]),
        gpus={host: _gpus(seen["gpus"]) for host, seen in report["hosts"].items() if "gpus" in seen},
    )


def _gpus(seen: Mapping[str, Any]) -> SeenGpus:
    models: Mapping[str, int] = seen["models"]
    names = [f"{count} \N{MULTIPLICATION SIGN} {shown(name, 80)}" for name, count in models.items()]
    state = shown(seen["state"], 80)
    words = [", ".join(names) or "no GPU", *([state] if state not in ("ready", "none") else [])]
    return SeenGpus(sum(models.values()), ", ".join(words))
