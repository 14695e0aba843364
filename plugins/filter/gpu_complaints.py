# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/gpu_offer: why containers cannot use a GPU that is there."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import complaints
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: gpu_complaints
short_description: Why containers cannot use a GPU that a host has
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Judges what M(gpustead.cluster.gpu_info) returned. GPUs that do not answer, are in bad health, or have MIG without
    instances are named, each with what to do.
options:
  _input:
    description: What M(gpustead.cluster.gpu_info) returned.
    type: dict
    required: true
  obstacles:
    description: What else is in the way, as sentences.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Fail where a GPU cannot be used
  ansible.builtin.assert:
    that: gpus | gpustead.cluster.gpu_complaints | length == 0
"""

RETURN = r"""
_value:
  description: Sentences, each with the reason and the remedy; none where containers can use all GPUs.
  type: list
  elements: str
"""

FilterModule = filter_module(gpu_complaints=complaints)
