#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the CDI specification of NVIDIA GPUs up to date."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cdi_spec
short_description: Keep the CDI specification of NVIDIA GPUs up to date
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Compares the devices that C(nvidia-ctk cdi list) finds in C(/var/run/cdi) with the GPUs and MIG devices that are
    there, the driver that C(/var/run/cdi/nvidia.yaml) was made for with the one that runs, and C(/dev/nvidia-uvm) in it
    with the one on the host, where there is one.
  - Where they differ it restarts C(nvidia-cdi-refresh.service), and where that is not there or passes over the host,
    lets C(nvidia-ctk cdi generate) write the file.
  - The file is root's, and all may read it (mode 0644).
  - Changed means that the file is another one afterwards, or others may read it.
options:
  uuids:
    description: UUIDs of what the driver shows, GPUs without MIG and MIG devices.
    type: list
    elements: str
    required: true
  needed:
    description: Those that containers must get. A GPU that does not answer is not one of them.
    type: list
    elements: str
    required: true
  divided:
    description: UUIDs of the GPUs with MIG. The toolkit names these, too; containers get their MIG devices.
    type: list
    elements: str
    default: []
  driver_version:
    description: Version of the driver that runs.
    type: str
    default: ""
  nvidia_ctk_path:
    description: The command. By default the one on the PATH.
    type: path
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.nvidia_device_nodes
"""

EXAMPLES = r"""
- name: Make the specification anew after a change of MIG
  gpustead.cluster.cdi_spec:
    uuids: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
    needed: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
    driver_version: 590.48.01

- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Have a specification of all GPUs that are not divided
  gpustead.cluster.cdi_spec:
    uuids: "{{ gpus.gpus | map(attribute='uuid') }}"
    needed: "{{ gpus.gpus | map(attribute='uuid') }}"
    driver_version: "{{ gpus.driver_version }}"
"""

RETURN = r"""
devices:
  description: The names of the devices, without C(nvidia.com/gpu=).
  returned: success
  type: list
  elements: str
  sample: ["0", "GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10", "all"]
reason:
  description: Why the file was, or in check mode would be, made anew; empty where it was up to date.
  returned: success
  type: str
problem:
  description: Why containers cannot get all that they need, with what to do; empty where they can.
  returned: success
  type: str
"""

import os
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import cdi_spec
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import UVM

ARGUMENTS = {
    "uuids": {"type": "list", "elements": "str", "required": True},
    "needed": {"type": "list", "elements": "str", "required": True},
    "divided": {"type": "list", "elements": "str", "default": []},
    "driver_version": {"type": "str", "default": ""},
    "nvidia_ctk_path": {"type": "path"},
}


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def major_of(node: str) -> int | None:
    """The major number of a device node; None where it is none."""
    try:
        status = os.stat(node)
    except OSError:
        return None
    return os.major(status.st_rdev) if stat.S_ISCHR(status.st_mode) else None


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    ctk = params["nvidia_ctk_path"] or module.get_bin_path("nvidia-ctk") or "nvidia-ctk"

    def run(argv: Any) -> tuple[int, str, str]:
        try:
            code, out, err = module.run_command(list(argv), environ_update={"LC_ALL": "C"}, handle_exceptions=False)
        except OSError as error:
            return 127, "", str(error)
        return code, out, err

    desired = cdi_spec.Desired(
        params["uuids"], params["needed"], params["driver_version"], params["divided"], major_of(UVM)
    )
    outcome = cdi_spec.apply(run, read, ctk, desired, module.check_mode)
    changed = outcome.changed
    if Path(cdi_spec.PATH).exists():  # where no GPU answers, none is made
        changed = module.set_owner_if_different(cdi_spec.PATH, "root", changed)
        changed = module.set_group_if_different(cdi_spec.PATH, "root", changed)
        changed = module.set_mode_if_different(cdi_spec.PATH, "0644", changed)
    module.exit_json(changed=changed, devices=outcome.devices, reason=outcome.reason, problem=outcome.problem)


if __name__ == "__main__":
    main()
