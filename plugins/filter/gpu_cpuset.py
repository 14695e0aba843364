# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/gpu_cpuset: GPUs to the CPUs and memory nodes near them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_cpuset import gpu_cpuset
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: gpu_cpuset
short_description: The CPUs and memory nodes near some GPUs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Joins what is near each of the GPUs, to pin a container to it.
positional: wanted
options:
  _input:
    description: The GPUs of a host, as M(gpustead.cluster.gpu_info) returns them in C(gpus).
    type: list
    elements: dict
    required: true
  wanted:
    description:
      - Indexes or UUIDs of the GPUs that the container gets. The UUID of a MIG instance stands for its GPU.
      - One that the host does not have is an error. Without the option all GPUs are meant.
    type: list
    elements: raw
seealso:
  - module: gpustead.cluster.gpu_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Start a container near its two GPUs
  community.docker.docker_container:
    name: near
    image: debian:13
    command: [sleep, infinity]
    cpuset_cpus: "{{ place.cpus or omit }}"
    cpuset_mems: "{{ place.mems or omit }}"
  vars:
    place: "{{ gpus.gpus | gpustead.cluster.gpu_cpuset([0, 1]) }}"
"""

RETURN = r"""
_value:
  description: What to pin to.
  type: dict
  contains:
    cpus:
      description:
        - CPUs in the kernel's list syntax, as C(cpuset) in a compose file and C(--cpuset-cpus) take them.
        - Null where it is not known of one of the GPUs, or no GPU was named. Then nothing should be pinned.
      type: str
      sample: 0-31,64-95
    mems:
      description: The same for memory nodes, as C(--cpuset-mems) takes them.
      type: str
      sample: "0"
"""


@filter_errors()
def cpuset(gpus: Any, wanted: Any = None) -> dict[str, str | None]:
    return asdict(gpu_cpuset(gpus, wanted))


FilterModule = filter_module(gpu_cpuset=cpuset)
