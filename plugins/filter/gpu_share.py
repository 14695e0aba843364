# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpu_offer: what a host offers to what one container gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import share

DOCUMENTATION = r"""
name: gpu_share
short_description: What one container gets of a host's GPUs
version_added: "0.1.0"
author: gpustead developers
description:
  - Takes some of the GPUs that role nvidia found for containers, with the CPUs near them.
positional: wanted
options:
  _input:
    description: The content of C(gpus.json), as P(gpustead.cluster.gpu_offer#filter) makes it.
    type: dict
    required: true
  wanted:
    description:
      - Positions in its C(uuids), or UUIDs. That of a GPU which is divided by MIG stands for its instances.
      - One that is not offered is an error. Without the option all GPUs are meant.
    type: list
    elements: raw
"""

EXAMPLES = r"""
- name: Show what a container gets that has the first two
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'gpus.json') | from_json | gpustead.cluster.gpu_share([0, 1]) }}"
"""

RETURN = r"""
_value:
  description: The share.
  type: dict
  contains:
    driver:
      description: What compose takes as C(driver); null where the share is empty.
      type: str
    device_ids:
      description: What compose takes as C(device_ids).
      type: list
      elements: str
    uuids:
      description: The UUIDs, as C(nvidia-smi -L) prints them in the container.
      type: list
      elements: str
    device_nodes:
      description: Device nodes to give besides.
      type: list
      elements: str
    cpus:
      description: The CPUs near the GPUs, as compose takes them in C(cpuset); null where they are not known.
      type: str
"""


def gpu_share(given: Any, wanted: Any = None) -> dict[str, Any]:
    try:
        return share(given, wanted)
    except GpusteadError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_share": gpu_share}
