# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bridges of Docker's networks: any name can be one (com.docker.network.bridge.name). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NAME = "com.docker.network.bridge.name"


def names(networks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The bridges of networks, as Docker describes these: named by somebody, or by the network's id."""
    bridged = [network for network in networks if network.get("Driver") == "bridge"]
    return sorted({str((each.get("Options") or {}).get(_NAME) or f"br-{each['Id'][:12]}") for each in bridged})


def unmatched(found: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those that none of these names matches, as iptables does (+ is any ending)."""
    return [name for name in found if not any(matches(name, pattern) for pattern in patterns)]


def matches(name: str, pattern: str) -> bool:
    return name == pattern or (pattern.endswith("+") and name.startswith(pattern[:-1]))
