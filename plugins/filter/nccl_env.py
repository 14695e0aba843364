# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/nccl_env: a node's networks to what NCCL and gloo must be told."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nccl_env import nccl_env
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: nccl_env
short_description: Environment variables of NCCL and gloo for a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Names the interface that leads to the other nodes, and the RDMA devices near the GPUs.
  - C(NCCL_IB_DISABLE) is set only where it is known that there is no RDMA device.
positional: route, interface
options:
  _input:
    description:
      - What M(gpustead.cluster.gpu_info) returns, or a dictionary with C(infiniband) (whether there is an RDMA device)
        and C(nics) (names of those near the GPUs).
      - What is missing is not known, and nothing is set for it.
    type: dict
    required: true
  route:
    description: What C(ip -j route get) prints for the address of another node. Empty where it was not asked.
    type: str
    default: ""
  interface:
    description: Interface to use instead. Several have commas between them.
    type: str
    default: ""
seealso:
  - module: gpustead.cluster.gpu_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Find the route to another node
  ansible.builtin.command:
    argv: [ip, -j, route, get, 10.20.0.12]
  register: route
  changed_when: false

- name: Show what NCCL must be told
  ansible.builtin.debug:
    msg: "{{ gpus | gpustead.cluster.nccl_env(route.stdout) }}"
"""

RETURN = r"""
_value:
  description: Variables and their values.
  type: dict
  sample:
    NCCL_SOCKET_IFNAME: =eth0
    GLOO_SOCKET_IFNAME: eth0
    NCCL_IB_HCA: =mlx5_0,mlx5_1
"""


@filter_errors()
def env(facts: Any, route: str = "", interface: str = "") -> dict[str, str]:
    return nccl_env(facts, route, interface)


FilterModule = filter_module(nccl_env=env)
