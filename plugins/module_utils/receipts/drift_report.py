# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the receipts of all hosts no longer vouch for, as one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

COLUMNS = ("host", "role", "subject", "what")
LONGEST = 2000  # characters of a cell
LEFT = "it does not belong on this host any more"


def report(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report of the results of receipt_check, by host: ok, summary, findings, lines for a table, and of which hosts
    it is known that they differ, and of which nothing is known."""
    found = [finding for host in sorted(results) for finding in _of_host(host, results[host])]
    # Names and values may be an account's, and go to a person.
    findings = [{key: shown(text, LONGEST) for key, text in finding.items()} for finding in found]
    unknown = sorted(host for host, result in results.items() if "findings" not in result)
    differ = sorted({finding["host"] for finding in findings} - {*unknown})
    return {
        "ok": not findings,
        "summary": " ".join(_summary(len(results) - len(unknown), differ, unknown, findings)),
        "findings": findings,
        "lines": table(findings),
        "differ": differ,
        "unknown": unknown,
    }


def _summary(
    looked_at: int, differ: Sequence[str], unknown: Sequence[str], findings: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    if differ:
        # Roles only run on the hosts that they belong on: none takes back what it left elsewhere.
        by_hand = all(one["what"].startswith(LEFT) for one in findings if one["host"] in differ)
        remedy = "Clear up by hand what is named." if by_hand else "Run site.yml to heal them."
        yield f"{len(differ)} of {looked_at} hosts differ ({', '.join(differ)}). {remedy}"
    elif looked_at or not unknown:
        stop = "." if unknown else ""
        yield f"{looked_at} hosts as their roles left them, and as the inventory has them{stop}"
    if unknown:
        names = ", ".join(unknown)
        yield f"{len(unknown)} of {looked_at + len(unknown)} hosts could not be looked at ({names}):"
        yield "whether they differ is not known. See why below, put that right, and run again."


def _of_host(host: str, result: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A host's findings. Why one could not be looked at stands among them, and is no drift."""
    if "findings" not in result:
        words = " ".join(str(result.get("msg") or "no result").split())[:400]
        what = "it cannot be reached" if result.get("unreachable") else "it cannot be looked at"
        yield {"host": host, "role": "", "subject": "host", "what": f"{what}: {words}"}
        return
    for finding in result["findings"]:
        yield {"host": host, **finding}
    for role in result.get("left", ()):
        receipt = f"{result['state_dir']}/receipts/{role}.json"
        what = f"{LEFT}, and site.yml takes nothing back: remove by hand what {receipt} lists, then that file"
        yield {"host": host, "role": role, "subject": "role", "what": what}


def table(findings: list[dict[str, str]]) -> list[str]:
    """Aligned lines, the columns' names first; none where there is nothing."""
    if not findings:
        return []
    rows = [COLUMNS, *(tuple(finding[column] for column in COLUMNS) for finding in findings)]
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) for row in rows]
