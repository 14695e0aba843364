# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/inventory/nas_ports: the ports by which the share is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.nas_ports import nas_ports as of_servers
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: nas_ports
short_description: The ports by which the share is served
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the ports that servers of the share have for the cluster's network. NFS 3 needs more of them than NFS 4, and
    GlusterFS others.
positional: variables
options:
  _input:
    description: The names of the servers.
    type: list
    elements: str
    required: true
  variables:
    description:
      - Variables of all hosts, as Ansible has them in C(hostvars). Of these C(nas_server_backend), C(nas_fstype),
        C(nas_nfs_version) and C(cluster_nfs_version) count, where they are set.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the ports of the NAS server
  ansible.builtin.debug:
    msg: "{{ (['nas'] | gpustead.cluster.nas_ports(hostvars)).nas.tcp }}"
"""

RETURN = r"""
_value:
  description: Ports and ranges (C(first:last)), by the name of the server.
  type: dict
  contains:
    tcp:
      description: TCP ports.
      type: list
      elements: str
    udp:
      description: UDP ports.
      type: list
      elements: str
"""


def nas_ports(servers: Sequence[str], variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {host: ports._asdict() for host, ports in of_servers(servers, variables).items()}


FilterModule = filter_module(nas_ports=nas_ports)
