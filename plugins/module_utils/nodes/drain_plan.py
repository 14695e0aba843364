# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody asks for who drains a node: held against the inventory before anything is changed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

EVERY = 10  # seconds from one look at what runs to the next
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 7 * 86400  # seconds
_REASON = 200  # characters


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        node, reason: as they were given.
        since: now, in UTC.
        until: when what runs there is to have ended, in UTC; empty: nobody waits for that.
        seconds, looks: how long that is, and how many times it is looked at again until then at most.
        told: what people read in their terminals.
    """

    node: str
    reason: str
    since: str
    until: str
    seconds: int
    looks: int
    told: str


def plan(
    node: str, nodes: Sequence[str], now: float, *, reason: str = "", deadline: str = "", stop: bool = False
) -> Plan:
    """The plan of a drain.

    Args:
        node: its name; empty, where none was given.
        nodes: those of the inventory.
        now: seconds since the epoch.
        reason: why, for people.
        deadline: how long what runs there has, such as `90s`, `30m`, `2h` or `1d`; empty: it is not waited for.
        stop: whether what still runs then is ended.

    Raises:
        GpusteadError: the node is none, or the deadline is no such time.
    """
    named = node_of(node, nodes)
    seconds = _seconds(deadline)
    if not reason.isprintable() or len(reason) > _REASON:
        raise GpusteadError(f"reason {reason!r}", f"one line of up to {_REASON} characters", "Say it in fewer words.")
    if stop and not seconds:
        remedy = "Say how long it has, such as -e deadline=10m, or leave stop out."
        raise GpusteadError("stop without a deadline", "a time after which what runs is ended", remedy)
    why, until = reason or "maintenance", _utc(now + seconds) if seconds else ""
    told = f"{named} takes no new runs: {why}."
    if until:
        told += f" What runs there has until {until}" + (", and is ended then." if stop else ".")
    return Plan(named, why, _utc(now), until, seconds, seconds // EVERY + 1, told)


def node_of(node: str, nodes: Sequence[str]) -> str:
    """A node of the inventory; raises GpusteadError where it is none."""
    if node in nodes:
        return node
    what = f"node {node!r} is not in gpu_nodes" if node else "no node is named"
    raise GpusteadError(what, f"one of {', '.join(nodes)}", "Name it with -e node=NAME.")


def _seconds(deadline: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([smhd])", deadline)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if deadline and not 0 < seconds <= _LONGEST:
        raise GpusteadError(f"deadline {deadline!r}", "a time such as 30m, 2h or 1d, up to 7d", "Correct it.")
    return seconds


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
