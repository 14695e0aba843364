#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the device nodes of NVIDIA's driver that CUDA needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_device_nodes
short_description: Make the device nodes of NVIDIA's driver that CUDA needs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes C(/dev/nvidia-uvm) where it is missing, by C(nvidia-ctk system create-device-nodes), else C(nvidia-modprobe).
    After a boot it is not there before the first CUDA program, and C(nvidia-smi) does not make it. A container without
    it sees its GPUs, and all of CUDA ends with error 999.
  - Returns the nodes that are there, for those who give them to containers.
  - WSL and Tegra, whose GPUs do without it, are left alone.
options:
  proc_root:
    description: Where procfs is mounted.
    type: path
    default: /proc
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.cdi_spec
"""

EXAMPLES = r"""
- name: Make the device nodes of the driver
  gpustead.cluster.nvidia_device_nodes:
  register: devices

- name: Show them
  ansible.builtin.debug:
    var: devices.nodes

- name: See whether some are missing
  gpustead.cluster.nvidia_device_nodes:
  check_mode: true
  register: devices
"""

RETURN = r"""
nodes:
  description: The device nodes, in check mode those that would be there.
  returned: success
  type: list
  elements: str
  sample: [/dev/nvidia-uvm, /dev/nvidia0, /dev/nvidiactl]
minors:
  description: Minor number of each GPU by its PCI address.
  returned: success
  type: dict
  sample: {"0000:18:00.0": 0}
capabilities:
  description: Minor numbers of the nodes that open MIG instances, C(/dev/nvidia-caps/nvidia-cap<minor>).
  returned: success
  type: dict
  sample: {"gpu0/gi1": 12, "gpu0/gi1/ci0": 13}
problem:
  description: Why the nodes cannot be made, with what to do; empty where they are there.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import apply
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {"proc_root": {"type": "path", "default": "/proc"}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run = within(60, environment={"LC_ALL": "C"})
    outcome = apply(run, Path("/dev"), Path(module.params["proc_root"]), module.check_mode)
    module.exit_json(
        changed=outcome.changed,
        nodes=outcome.nodes.paths,
        minors=outcome.nodes.minors,
        capabilities=outcome.nodes.capabilities,
        problem=outcome.problem,
    )


if __name__ == "__main__":
    main()
