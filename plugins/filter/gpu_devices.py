# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/gpu_offer: the UUIDs of all that the driver shows."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import all_devices
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: gpu_devices
short_description: UUIDs of all GPUs and MIG devices that the driver shows
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - A GPU with MIG is there as its instances, one without as itself, whatever their health.
options:
  _input:
    description: What M(gpustead.cluster.gpu_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the devices
  ansible.builtin.debug:
    msg: "{{ gpus | gpustead.cluster.gpu_devices }}"
"""

RETURN = r"""
_value:
  description: The UUIDs, C(GPU-...) and C(MIG-...).
  type: list
  elements: str
"""

FilterModule = filter_module(gpu_devices=all_devices)
