# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the receipts of all hosts no longer vouch for, as one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

COLUMNS = ("host", "role", "subject", "what")
LONGEST = 2000  # characters of a cell
LEFT = "it does not belong on this host any more"


def report(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report of the results of receipt_check, by host: ok, summary, findings, and lines for a table."""
    found = [finding for host in sorted(results) for finding in _of_host(host, results[host])]
    # Names and values may be an account's, and go to a person.
    findings = [{key: shown(text, LONGEST) for key, text in finding.items()} for finding in found]
    drifted = sorted({finding["host"] for finding in findings})
    summary = f"{len(results)} hosts as their roles left them, and as the inventory has them"
    if findings:
        # Roles only run on the hosts that they belong on: none takes back what it left elsewhere.
        by_hand = all(finding["what"].startswith(LEFT) for finding in findings)
        remedy = "Clear up by hand what is named." if by_hand else "Run site.yml to heal them."
        summary = f"{len(drifted)} of {len(results)} hosts differ ({', '.join(drifted)}). {remedy}"
    return {"ok": not findings, "summary": summary, "findings": findings, "lines": table(findings)}


def _of_host(host: str, result: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A host's findings. One that could not be looked at is a finding as well."""
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
