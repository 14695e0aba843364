# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sets of ports and of addresses, as ascending ranges that do not touch. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Union

Spans = tuple[tuple[int, int], ...]  # first and last numbers, ascending, apart
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

EVERY: Mapping[str, Spans] = MappingProxyType({"v4": ((0, (1 << 32) - 1),), "v6": ((0, (1 << 128) - 1),)})
PORTS: Spans = ((1, 65535),)


def port_words(spans: Spans) -> str:
    return ",".join(f"{first}" if first == last else f"{first}:{last}" for first, last in spans)


def networks(spans: Spans, family: str) -> str:
    """Sources as a person writes them: any, or CIDRs; of many the first ones."""
    if spans == EVERY[family]:
        return "any"
    found = _cidrs(spans, family)
    if len(found) > 4:
        # "any but these" says more than thirty networks.
        others = _cidrs(minus(EVERY[family], spans), family)
        if len(others) < len(found):
            return f"any but {_some(others)}"
    return _some(found)


def _cidrs(spans: Spans, family: str) -> list[str]:
    kind: Any = ipaddress.IPv4Address if family == "v4" else ipaddress.IPv6Address
    return [
        re.sub(r"/(32|128)$", "", str(network)) if network.num_addresses == 1 else str(network)
        for first, last in spans
        for network in ipaddress.summarize_address_range(kind(first), kind(last))
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *[f"{len(names) - 4} more"] * (len(names) > 4)])


def union(spans: Spans, other: Spans) -> Spans:
    if not spans or not other:
        return spans or other
    merged: list[tuple[int, int]] = []
    for first, last in sorted((*spans, *other)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)


def common(spans: Spans, other: Spans) -> Spans:
    found = [(max(a, c), min(b, d)) for a, b in spans for c, d in other if a <= d and c <= b]
    return tuple(sorted(found))


def minus(spans: Spans, other: Spans) -> Spans:
    left = list(spans)
    for first, last in other:
        parts = []
        for a, b in left:
            if b < first or a > last:
                parts.append((a, b))
                continue
            parts += [(a, first - 1)] * (a < first) + [(last + 1, b)] * (b > last)
        left = parts
    return tuple(left)


def ports_of(text: str) -> Spans:
    """`22`, `22,8000:8010`; nothing: all."""
    spans: Spans = ()
    for part in filter(None, text.split(",")):
        first, _separator, last = part.partition(":")
        if not first.isdigit() or not (last or first).isdigit():
            return PORTS  # a name of a service: any
        spans = union(spans, ((int(first), int(last or first)),))
    return spans or PORTS


def sources_of(names: Iterable[str]) -> dict[str, Spans]:
    """Addresses and networks by family; "any" is of both. What is none of these is nobody."""
    found: dict[str, Spans] = {"v4": (), "v6": ()}
    for name in names:
        if name.lower() in ("any", "anywhere", "0.0.0.0/0", "::/0"):
            return dict(EVERY)
        network = network_of(name)
        if network is not None:
            family = f"v{network.version}"
            found[family] = union(found[family], span_of(network))
    return found


def network_of(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _masked(text)


def _masked(text: str) -> Network | None:
    """10.0.0.0/255.0.0.0 is known to ipaddress; an IPv6 mask is not."""
    address, _separator, mask = text.partition("/")
    try:
        bits = int(ipaddress.IPv6Address(mask)) if mask else 0
        return ipaddress.ip_network(f"{address}/{bin(bits).count('1')}", strict=False) if mask else None
    except ValueError:
        return None


def span_of(network: Network) -> Spans:
    return ((int(network.network_address), int(network.broadcast_address)),)
