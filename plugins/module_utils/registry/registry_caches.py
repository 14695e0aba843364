# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which cache of registries a node has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of


def of_nodes(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The cache of each GPU node, {node: {host, address}}; empty where there are none.

    The nodes take the caches in turn, so a new node at the end moves no other.

    Args:
        groups: members of each group of the inventory.
        variables: of each host of the inventory.
    """
    caches = groups.get("registry_caches") or []
    nodes = (groups.get("gpu_nodes") or []) if caches else []
    found = [{"host": cache, "address": address_of(variables[cache], cache)} for cache in caches]
    return {node: found[position % len(found)] for position, node in enumerate(nodes)}


def places(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]], port: int) -> list[str]:
    """Where the caches answer, `address:port` of each: a node may have had another of them than it has now.

    Args:
        groups: members of each group of the inventory.
        variables: of each host of the inventory.
        port: the port of all of them.
    """
    return [f"{address_of(variables[cache], cache)}:{port}" for cache in groups.get("registry_caches") or []]
