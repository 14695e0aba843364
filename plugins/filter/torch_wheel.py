# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/images/torch_wheel: drivers and GPUs to the index of PyTorch's wheels."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import beyond, torch_wheel
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: torch_wheel
short_description: The index of PyTorch's wheels that fits drivers and GPUs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Chooses the newest index that runs on the drivers of all given hosts and holds machine code for all their GPUs.
    One image is built for all nodes, so one index must serve them all.
  - An index whose CUDA is no newer than the drivers goes before one that runs by NVIDIA's minor-version compatibility
    alone.
  - Hosts without a usable GPU do not count. Where no host has one, the index is C(cpu). Nor do GPUs that
    M(gpustead.cluster.gpu_info) withholds. One whose compute capability is not known is an error.
  - Fails where no index serves all hosts, and says which constraint failed for each index and what would satisfy it.
positional: torch
options:
  _input:
    description:
      - One host, or a list of hosts. Each is what M(gpustead.cluster.gpu_info) returns, or a dictionary with C(driver)
        (such as V(590.48.01); null where it does not work) and C(compute_capabilities) (such as V(["9.0"\])).
      - With C(host) beside these, messages name it. C(machine) is V(x86_64) or V(aarch64), which have wheels of their
        own; V(x86_64) where it is left out.
    type: raw
    required: true
  torch:
    description:
      - Version of PyTorch, from 2.4 on; for V(aarch64) from 2.7. Patch release and suffix do not matter.
      - One that is newer than the collection knows (2.15) is taken for that one, with a warning.
    type: str
    required: true
seealso:
  - module: gpustead.cluster.gpu_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Show the index for this host
  ansible.builtin.debug:
    msg: "{{ gpus | gpustead.cluster.torch_wheel('2.13.0') }}"

- name: Show the index for all nodes
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars, 'gpus') | gpustead.cluster.torch_wheel('2.13.0') }}"
  run_once: true

# cu128
- name: Show the index for GPUs that are only planned
  ansible.builtin.debug:
    msg: "{{ planned | gpustead.cluster.torch_wheel('2.10.0') }}"
  vars:
    planned: {driver: 570.124.06, compute_capabilities: ["9.0", "12.0"]}
"""

RETURN = r"""
_value:
  description: Name of the index, as in C(https://download.pytorch.org/whl/<index>).
  type: str
  sample: cu128
"""


@filter_errors()
def wheel(hosts: Any, torch: str) -> str:
    if newer := beyond(torch):
        Display().warning(newer)
    return torch_wheel(hosts, torch)


FilterModule = filter_module(torch_wheel=wheel)
