# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/mesh/mesh_nodes: where the sshd of each node of the mesh is."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_nodes import endpoints
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: mesh_nodes
short_description: Where the sshd of each node of the mesh is
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Reads C(cluster_address), else C(ansible_host), and C(ssh_mesh_port) of each node.
positional: variables, port
options:
  _input:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  variables:
    description: Variables of all hosts, as Ansible has them in C(hostvars).
    type: dict
    required: true
  port:
    description: Port of a node that has none of its own.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show where the others find the mesh of gpu01
  ansible.builtin.debug:
    msg: "{{ (groups['gpu_nodes'] | gpustead.cluster.mesh_nodes(hostvars, 2222)).gpu01 }}"
"""

RETURN = r"""
_value:
  description: C(address) and C(port), by the name of the node.
  type: dict
"""

FilterModule = filter_module(mesh_nodes=endpoints)
