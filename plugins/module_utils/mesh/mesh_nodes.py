# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the sshd of each node of the mesh is, from the inventory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of


def endpoints(nodes: Iterable[str], variables: Mapping[str, Mapping[str, Any]], port: int) -> dict[str, dict[str, Any]]:
    """{node: {address, port}}, in the order of the nodes.

    Args:
        nodes: names in the inventory.
        variables: of each host of the inventory.
        port: of a node that has none of its own (`ssh_mesh_port`).
    """
    found = {}
    for node in nodes:
        own: Mapping[str, Any] = {}
        if node in variables:  # Ansible's own give something undefined for others
            own = variables[node]
        # From the command line it is a text.
        found[node] = {"address": address_of(own, node), "port": int(own.get("ssh_mesh_port", port))}
    return found
