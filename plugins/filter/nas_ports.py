# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/inventory/nas_ports: the ports by which the share is served and mounted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.nas_ports import nas_ports as of_host
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: nas_ports
short_description: The ports by which the share is served and mounted
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the ports that a server of the share, and a node that mounts it, have for the cluster's network. NFS 3 needs
    more of them than NFS 4, and GlusterFS others.
options:
  _input:
    description: The variables of a host. Of these C(nas_server_backend), C(nas_fstype), C(nas_nfs_version),
      C(nas_options) and C(nas_extra_mounts) count, where they are set.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the ports of the NAS server
  ansible.builtin.debug:
    msg: "{{ (hostvars['nas'] | gpustead.cluster.nas_ports).tcp }}"
"""

RETURN = r"""
_value:
  description: Ports and ranges (C(first:last)).
  type: dict
  contains:
    tcp:
      description: TCP ports of a server.
      type: list
      elements: str
    udp:
      description: UDP ports of a server.
      type: list
      elements: str
    locks:
      description: Ports of a node on which the server of an NFS 3 share calls back, on TCP and UDP.
      type: list
      elements: str
"""


def nas_ports(variables: Mapping[str, Any]) -> dict[str, Any]:
    return of_host(variables)._asdict()


FilterModule = filter_module(nas_ports=nas_ports)
