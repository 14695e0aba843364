# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""By which interface a node reaches the others: by its route to one of them. Their network may not lead there."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Union

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
# Docker's own, which lead to no other node.
_DOCKERS = re.compile(r"docker|veth|br-[0-9a-f]{12}$")
_REMEDY = "Set ssh_mesh_interface of this node to the one that leads to the others."


def find_route(peer: str, networks: Sequence[str], run: Run) -> str:
    """What `ip -j route get` prints for another node; empty where there is none and no interface is the only one.

    Args:
        peer: its address, or its name, which this node resolves; empty: there is no other node.
        networks: those of the cluster, as CIDR. Of the addresses of a name those in there count. Where a name has none,
            the way is the one interface of this node with an address in there.
        run: runs `ip` and `getent`.

    Raises:
        GpusteadError: there is no route, or several interfaces, or none, could be meant.
    """
    if peer and _address(peer):
        return _route(peer, run)
    if not networks and not peer:
        return ""
    inside = [ipaddress.ip_network(one) for one in networks]
    routes = [_route(str(one), run) for one in _resolved(peer, run) if _within(one, inside)] if peer else []
    ways = {name: route for route in routes for name in _devices(route)}
    where = f"the addresses of {peer}"
    if not ways:
        ways = {name: json.dumps([{"dev": name}]) for name in _interfaces(run, inside)}
        where = f"the networks of the cluster ({', '.join(networks)})"
    if len(ways) == 1:
        return next(iter(ways.values()))
    if not peer:
        return ""
    unknown = "" if routes else f"this node resolves {peer} to no address in the networks of the cluster, and "
    raise GpusteadError(f"{unknown}{where} are reached by {' and '.join(ways) or 'no interface'}", "one", _REMEDY)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _within(address: Address, networks: Sequence[Any]) -> bool:
    return not address.is_loopback and (not networks or any(address in network for network in networks))


def _resolved(name: str, run: Run) -> list[Address]:
    _code, out, _err = run(["getent", "ahosts", name])
    found = [_address(line.split()[0].partition("%")[0]) for line in out.splitlines() if line.strip()]
    return [one for one in dict.fromkeys(found) if one]


def _route(address: str, run: Run) -> str:
    remedy = "See the node's network, and the addresses of the inventory."
    return must(run, ["ip", "-j", "route", "get", address], remedy=remedy)


def _devices(route: str) -> list[str]:
    """The loopback leads to nobody else."""
    return [str(one["dev"]) for one in json.loads(route or "[]") if one.get("dev") not in (None, "lo")]


def _interfaces(run: Run, networks: Sequence[Any]) -> Iterator[str]:
    """Those that are up and have an address in the networks."""
    for link in json.loads(must(run, ["ip", "-j", "address"], remedy=_REMEDY) or "[]"):
        name, flags = str(link.get("ifname")), link.get("flags") or ()
        if "UP" not in flags or "LOOPBACK" in flags or _DOCKERS.match(name):
            continue
        addresses = [_address(str(one.get("local"))) for one in link.get("addr_info") or ()]
        if any(one and _within(one, networks) for one in addresses):
            yield name
