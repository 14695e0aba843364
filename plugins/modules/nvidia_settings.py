#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set persistence mode and power limits of NVIDIA GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_settings
short_description: Set persistence mode and power limits of NVIDIA GPUs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Switches persistence mode on, and sets the power limits that are declared, by C(nvidia-smi).
  - The driver forgets both at a reboot; RV(at_boot) has the commands that set them again.
options:
  gpus:
    description: The GPUs, as M(gpustead.cluster.gpu_info) returned them just now.
    type: list
    elements: dict
    required: true
  persistence:
    description: Switch persistence mode on where it is off. V(false) leaves it as it is.
    type: bool
    default: true
  power_limits:
    description:
      - Power limits (W) by GPU. A GPU is named by words of its model's name, its UUID, or its number, V(gpu:0).
        UUID and number beat the model, a longer name a shorter one.
      - The words are whole ones. V(A10) is not an A100, V(H200) not a GH200, and V(RTX 4070) not an RTX 4070 Ti.
    type: dict
    default: {}
  nvidia_smi_path:
    description: The command. By default the one on the PATH.
    type: path
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.mig_layout
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Keep them awake, and the H100 below 500 W
  gpustead.cluster.nvidia_settings:
    gpus: "{{ gpus.gpus }}"
    power_limits: {H100: 500}

- name: Persistence mode off, one GPU by its UUID and one by its number
  gpustead.cluster.nvidia_settings:
    gpus: "{{ gpus.gpus }}"
    persistence: false
    power_limits: {GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10: 350, "gpu:1": 400}
"""

RETURN = r"""
at_boot:
  description: The arguments of C(nvidia-smi) that set all of it again after a reboot.
  returned: success
  type: list
  elements: list
  sample: [["-pm", "1"]]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_settings

ARGUMENTS = {
    "gpus": {"type": "list", "elements": "dict", "required": True},
    "persistence": {"type": "bool", "default": True},
    "power_limits": {"type": "dict", "default": {}},
    "nvidia_smi_path": {"type": "path"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    gpus, persistence, limits = (module.params[name] for name in ("gpus", "persistence", "power_limits"))
    smi = module.params["nvidia_smi_path"] or module.get_bin_path("nvidia-smi", required=True)

    def run(argv: Any) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv), environ_update={"LC_ALL": "C"})
        return code, out, err

    try:
        steps = nvidia_settings.plan(gpus, persistence, limits)
        at_boot = nvidia_settings.at_boot(gpus, persistence, limits)
        if not module.check_mode:
            nvidia_settings.apply(run, smi, steps)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(steps),
        at_boot=at_boot,
        diff={
            "before": "".join(f"{step.before}\n" for step in steps),
            "after": "".join(f"{step.after}\n" for step in steps),
        },
    )


if __name__ == "__main__":
    main()
