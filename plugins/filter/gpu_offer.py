# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/gpu_offer: what gpu_info found to what containers get."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import offer
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: gpu_offer
short_description: What a host offers to containers of its GPUs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - The content of C(gpus.json), which role nvidia leaves for whoever starts containers.
  - A GPU with MIG is given as its instances, one without as itself, and one in bad health or withheld not at all.
options:
  _input:
    description: What M(gpustead.cluster.gpu_info) returned.
    type: dict
    required: true
  mode:
    description: V(cdi) or V(runtime); null where containers get no GPU.
    type: str
    required: true
  slots:
    description: What counts as a slot, V(gpus) or V(mig_instances).
    type: str
    default: gpus
  observed:
    description: What M(gpustead.cluster.nvidia_device_nodes) returned. Nodes are given with O(mode=runtime) alone.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what containers get
  ansible.builtin.debug:
    msg: "{{ gpus | gpustead.cluster.gpu_offer('cdi') }}"
"""

RETURN = r"""
_value:
  description: What is offered.
  type: dict
  contains:
    schema:
      description: Version of this form.
      type: int
    state:
      description: As M(gpustead.cluster.gpu_info) has it.
      type: str
    driver:
      description: What compose takes as C(driver), V(cdi) or V(nvidia); null where there is no GPU for containers.
      type: str
    device_ids:
      description: What compose takes as C(device_ids).
      type: list
      elements: str
    uuids:
      description: The UUIDs, as C(nvidia-smi -L) prints them in a container.
      type: list
      elements: str
    device_nodes:
      description: Device nodes to give besides, so that a reload of systemd does not take the GPUs away.
      type: list
      elements: str
    slots:
      description: How many ranks the host takes; 0 where there is no GPU for containers.
      type: int
    nics:
      description: The RDMA devices with an active port that are nearest to the GPUs.
      type: list
      elements: str
    infiniband:
      description: Whether the host has an InfiniBand device.
      type: bool
    driver_version:
      description: Version of NVIDIA's driver.
      type: str
    machine:
      description: What the host is, V(x86_64) or V(aarch64).
      type: str
    gpus:
      description: Of each GPU that is given its C(index), C(uuid), C(compute_capability), C(cpus), C(numa_nodes), the
        UUIDs under which it is used (C(devices)), its device node (C(node)), and those that open its MIG instances by
        their UUIDs (C(caps)).
      type: list
      elements: dict
"""

FilterModule = filter_module(gpu_offer=offer)
