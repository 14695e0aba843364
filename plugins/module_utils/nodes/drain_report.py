# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a drain has come to, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown


@dataclass(frozen=True)
class DrainReport:
    """`ok`: nothing is left that was to have ended."""

    ok: bool
    lines: Sequence[str]


def report(plan: Mapping[str, Any], found: Mapping[str, Any], silent: Sequence[str] = ()) -> DrainReport:
    """The report.

    Args:
        plan: of the drain.
        found: what module node_work_info or node_work last returned of the node; empty where it does not answer.
        silent: the nodes that do not answer.
    """
    node, waited = plan["node"], bool(plan["seconds"])
    lines = [f"{node} is drained: {plan['reason']}"]
    left, ok = found.get("left", found.get("lines")), True
    if left:
        still = "still runs there after the deadline" if waited else "runs there"
        lines.append(f"this {still}:")
        lines += [f"- {shown(line)}" for line in left]
        lines.append(
            "it ends by itself; or run this again with a deadline, and with stop=true to end what runs then"
            if not waited
            else "wait for it and run this again; -e stop=true with a deadline ends it then"
        )
        ok = not waited
    elif left is not None:
        lines.append("nothing runs there")
    elif node in silent or found.get("unreachable"):
        lines.append("it does not answer: what runs there is not known")
        ok = not waited
    else:
        lines.append(f"what runs there could not be looked at: {shown(found.get('msg') or 'no result', 2000)}")
        ok = False
    others = [name for name in silent if name != node]
    if others:
        lines.append(f"do not answer, and see it on the share when they are back: {', '.join(others)}")
    return DrainReport(ok, lines)
