# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/gpu_offer: what is to be known of GPUs that containers get."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import warnings
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: gpu_warnings
short_description: What is to be known of the GPUs that containers get
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Names sensors that fail, a GPU with less than half of the memory of another one, and one whose compute capability
    is not known, each with what to do. None of it keeps containers from a GPU.
options:
  _input:
    description: What M(gpustead.cluster.gpu_info) returned.
    type: dict
    required: true
seealso:
  - plugin: gpustead.cluster.gpu_complaints
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what is to be known of the GPUs
  ansible.builtin.debug:
    msg: "{{ gpus | gpustead.cluster.gpu_warnings }}"
"""

RETURN = r"""
_value:
  description: Sentences; none where there is nothing to say.
  type: list
  elements: str
"""

FilterModule = filter_module(gpu_warnings=warnings)
