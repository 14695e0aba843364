#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Divide GPUs by MIG as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mig_layout
short_description: Divide NVIDIA GPUs into MIG instances as declared
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Compares the GPU instances of each GPU with those that are declared for it, and where they differ destroys and
    creates them, each with one compute instance that has all of it. Switches MIG on and off for it.
  - A GPU that nothing is declared for is left alone. So is one that is as declared, whatever its instances' UUIDs.
  - A layout that cannot be is refused before anything is changed, as far as the driver names its profiles, which old
    ones do only once MIG is on.
  - A GPU that a process uses is not touched; the processes are named.
  - UUIDs of instances may change with it. Ask M(gpustead.cluster.gpu_info) again afterwards.
options:
  layouts:
    description:
      - Lists of profiles by GPU. A GPU is named by words of its model's name, its UUID, or its number, V(gpu:0).
        UUID and number beat the model, a longer name a shorter one.
      - The words are whole ones. V(A10) is not an A100, V(H200) not a GH200, and V(RTX 4070) not an RTX 4070 Ti.
      - An empty list switches MIG off.
    type: dict
    required: true
  gpus:
    description: The GPUs, as M(gpustead.cluster.gpu_info) returned them just now.
    type: list
    elements: dict
    required: true
  nvidia_smi_path:
    description: The command. By default the one on the PATH.
    type: path
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Shows the plan. Processes on the GPUs do not matter to it.
  diff_mode:
    description: Shows the instances of each GPU before and after.
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.nvidia_settings
  - module: gpustead.cluster.gpu_users_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Divide all A100, and keep the first GPU whole
  gpustead.cluster.mig_layout:
    gpus: "{{ gpus.gpus }}"
    layouts:
      A100: [3g.40gb, 2g.20gb, 1g.10gb, 1g.10gb]
      gpu:0: []

- name: Show the plan
  gpustead.cluster.mig_layout:
    gpus: "{{ gpus.gpus }}"
    layouts: {H100: [7g.80gb]}
  check_mode: true
  diff: true
"""

RETURN = r"""
steps:
  description: What is done, or in check mode would be, in order.
  returned: success
  type: list
  elements: dict
  contains:
    gpu:
      description: Number of the GPU.
      type: int
    text:
      description: What the step does.
      type: str
      sample: create 3g.40gb, 2g.20gb, 1g.10gb, 1g.10gb
    commands:
      description: The arguments of C(nvidia-smi) for it.
      type: list
      elements: list
at_boot:
  description:
    - The arguments of C(nvidia-smi) with which the declared layouts are made after a reboot, which forgets them.
  returned: success
  type: list
  elements: list
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import mig_layout as mig
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

ARGUMENTS = {
    "layouts": {"type": "dict", "required": True},
    "gpus": {"type": "list", "elements": "dict", "required": True},
    "nvidia_smi_path": {"type": "path"},
}


def apply_layouts(run: Run, smi: str, gpus: Any, layouts: Any, check_mode: bool) -> mig.Plan:
    if not any(mig.declared_for(layouts, gpu) is not None for gpu in gpus):
        return mig.Plan()
    plan = mig.plan(gpus, layouts, mig.observe(run, smi))
    if plan.steps and not check_mode:
        mig.apply(run, smi, gpus, plan)
        mig.check_made(gpus, layouts, mig.observe(run, smi))
    return plan


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    gpus, layouts = module.params["gpus"], module.params["layouts"]
    smi = module.params["nvidia_smi_path"] or module.get_bin_path("nvidia-smi", required=True)

    def run(argv: Any) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv), environ_update={"LC_ALL": "C"})
        return code, out, err

    try:
        plan = apply_layouts(run, smi, gpus, layouts, module.check_mode)
        at_boot = mig.at_boot(gpus, layouts)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(plan.steps),
        steps=[{"gpu": step.gpu, "text": step.text, "commands": step.commands} for step in plan.steps],
        at_boot=at_boot,
        diff={
            "before": "".join(f"{line}\n" for line in plan.before),
            "after": "".join(f"{line}\n" for line in plan.after),
        },
    )


if __name__ == "__main__":
    main()
