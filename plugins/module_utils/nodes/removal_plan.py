# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody asks for who removes a node: held against the inventory before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.drain_plan import node_of

# Of which a host serves others, and what is to be done first.
_SERVES = {
    "nas_server": "Move the share to another server first, and take it out of that group.",
    "registry": "Put the registry on another host first, and take it out of that group.",
    "registry_caches": "Take it out of that group first, and run site.yml.",
}


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        node: its name.
        stay: the nodes that stay, in the order of the inventory.
    """

    node: str
    stay: Sequence[str]


def plan(node: str, groups: Mapping[str, Sequence[str]], builder: str) -> Plan:
    """The plan of a removal.

    Args:
        node: its name; empty, where none was given.
        groups: of the inventory.
        builder: the node that builds the images.

    Raises:
        GpusteadError: the node is none, or others need it.
    """
    nodes = list(groups.get("gpu_nodes", ()))
    named = node_of(node, nodes)
    for group, remedy in _SERVES.items():
        if named in groups.get(group, ()):
            raise GpusteadError(f"{named} is in {group}", "a node that serves no others", remedy)
    if named == builder:
        remedy = "Name another in images_builder, or move another to the top of gpu_nodes, and run site.yml first."
        raise GpusteadError(f"{named} builds the images", "a node that others do not need", remedy)
    stay = [name for name in nodes if name != named]
    if not stay:
        raise GpusteadError(f"{named} is the only node", "another one that stays", "Nothing is left of a cluster then.")
    return Plan(named, stay)
