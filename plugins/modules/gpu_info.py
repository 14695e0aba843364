#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nvidia_smi."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell which NVIDIA GPUs of a host can be used
description:
  - Asks C(nvidia-smi) and the PCI bus.
  - A GPU that is there without a working driver is reported as V(unusable), never as V(none).
version_added: 0.1.0
author: The gpustead developers (@gpustead)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: linux
options: {}
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Show how many can be used
  ansible.builtin.debug:
    msg: "{{ gpus.gpus | length }} GPUs, {{ gpus.state }}: {{ gpus.reason }}"
"""

RETURN = r"""
state:
  description:
    - V(none) when the host has no NVIDIA GPU, V(ready) when all its GPUs answer.
    - V(unusable) when there are GPUs that do not answer as they should.
  type: str
  returned: always
  sample: ready
gpus:
  description: The GPUs in the order of their index; empty unless RV(state) is V(ready).
  type: list
  elements: dict
  returned: always
  contains:
    index:
      description: Number of the GPU on this host, from 0.
      type: int
      sample: 0
    uuid:
      description: Name of the GPU that stays the same when others are added or removed.
      type: str
      sample: GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10
    name:
      description: Product name.
      type: str
      sample: NVIDIA H100 80GB HBM3
reason:
  description: What the state was concluded from.
  type: str
  returned: always
  sample: 8 GPU(s) answer
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.nvidia_smi import QUERY, count_pci_gpus, judge


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    smi = module.get_bin_path("nvidia-smi")
    answer = module.run_command([smi, *QUERY], encoding="utf-8") if smi else None
    report = judge(answer, count_pci_gpus())
    module.exit_json(changed=False, **asdict(report))


if __name__ == "__main__":
    main()
