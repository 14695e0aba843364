#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/gpus/gpu_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell which NVIDIA GPUs of a host can be used
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Asks C(nvidia-smi), the PCI bus and the loaded kernel module, and says in RV(state) what they amount to.
  - A GPU that is there without a working driver is reported as V(unusable) with the reason and a remedy, never as
    V(none).
  - Starts three processes at most, C(nvidia-smi -q -x), C(nvidia-smi --query-gpu) for the compute capability, and
    either C(nvidia-smi topo -m) or, where there are MIG devices, C(nvidia-smi -L), which alone knows their UUIDs. What
    is near a GPU is then read from sysfs.
  - A value that is not known is V(null), and a list of which nothing is known is empty. There are no made-up zeros.
  - Does not fail because of a GPU, whatever its state. Root is not needed.
options:
  nvidia_smi_path:
    description:
      - The C(nvidia-smi) to ask.
      - Without it the one on the PATH is asked, or the one of WSL in C(/usr/lib/wsl/lib).
    type: path
  sysfs_root:
    description: Where sysfs is mounted.
    type: path
    default: /sys
  proc_root:
    description: Where procfs is mounted.
    type: path
    default: /proc
  topology:
    description: Whether to ask for the links between the GPUs and for what is near them.
    type: bool
    default: true
  exclude:
    description:
      - GPUs that are not for containers. They are returned with RV(gpus[].withheld=excluded), and the state is that of
        the others.
      - Each is a model, V(GPU-...), V(gpu:<number>), or an address on the PCI bus such as V("0000:c1:00.0"), by which
        also a card is named that no driver takes.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - How long to wait for each process, in seconds.
      - C(nvidia-smi) can hang when a GPU has fallen off the bus. The state is then V(unusable).
    type: int
    default: 60
extends_documentation_fragment: [gpustead.cluster.attributes.info]
notes:
  - The compute capability is what the driver says. Drivers before 510 do not; then it is taken from a table of NVIDIA's
    products, and V(null) for one that is not in the table.
  - Virtual functions of a GPU are not counted as GPUs, and GPUs that are held for virtual machines (C(vfio-pci)) are
    not missing where others answer.
seealso:
  - name: What is detected, and how
    description: The table of states, reasons and remedies.
    link: https://github.com/gpustead/cluster/blob/main/docs/gpus.md
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpustead.cluster.gpu_info:
  register: gpus

- name: Stop where there is a GPU that cannot be used, and say what to do
  ansible.builtin.fail:
    msg: "{{ gpus.detail }}. {{ gpus.remedy }}"
  when: gpus.state == 'unusable'

- name: Show the GPUs that are well and not divided by MIG
  ansible.builtin.debug:
    msg: "{{ gpus.gpus | rejectattr('health', 'equalto', 'bad') | rejectattr('mig.current') | map(attribute='uuid') }}"

- name: Show all MIG devices of 1g.10gb
  ansible.builtin.debug:
    msg: >-
      {{ gpus.gpus | map(attribute='mig.instances') | flatten
         | selectattr('profile', 'equalto', '1g.10gb') | map(attribute='uuid') }}

- name: Leave out the card for the display
  gpustead.cluster.gpu_info:
    exclude: [DGX Display]

- name: Ask a driver that is not on the PATH, quickly, and not for the topology
  gpustead.cluster.gpu_info:
    nvidia_smi_path: /run/nvidia/driver/usr/bin/nvidia-smi
    topology: false
    timeout: 10
"""

RETURN = r"""
state:
  description:
    - V(none), the host has no NVIDIA GPU, or O(exclude) names all of them.
    - V(unusable), it has some, and none of them answers; see RV(reason).
    - V(degraded), some answer and others do not, or the health of some is bad.
    - V(ready), all of them answer and none is known to be unhealthy.
  type: str
  returned: always
  sample: ready
reason:
  description:
    - Why the GPUs are V(unusable) or V(degraded), V(null) for the other states.
    - V(not_installed), C(nvidia-smi) or its library is not there.
    - V(not_loaded), the kernel module is not loaded.
    - V(version_mismatch), the libraries are not of the version of the loaded kernel module.
    - V(gpu_lost), all GPUs, or some of them where the state is V(degraded), do not answer any more.
    - V(no_devices), the driver runs and accepts none of the GPUs, or some of them not where the state is V(degraded).
    - V(vgpu_host), the GPUs are shared out to virtual machines, and this host has no CUDA.
    - V(vfio), all GPUs are held for virtual machines.
    - V(nouveau), the kernel's own driver holds the GPUs that do not answer.
    - V(unhealthy), all GPUs answer and the health of some is bad; only where the state is V(degraded).
    - V(unknown), C(nvidia-smi) hangs or says something else; see RV(detail).
  type: str
  returned: always
  sample: version_mismatch
remedy:
  description: What to do next, in one sentence. V(null) for V(none) and V(ready).
  type: str
  returned: always
  sample: >-
    Reboot the host, or stop all that uses the GPUs and load the nvidia modules anew, then hold the driver's packages
    against unattended upgrades.
detail:
  description: What the state was concluded from, in the words of the tools where they spoke.
  type: str
  returned: always
  sample: >-
    nvidia-smi ended with 18 and said: Failed to initialize NVML: Driver/library version mismatch NVML library version:
    570.124; the PCI bus has 1 NVIDIA GPU (1 with nvidia); the loaded kernel module is 580.173.02; the library is
    570.124
driver_version:
  description: Version of the driver; of its kernel module where C(nvidia-smi) does not say.
  type: str
  returned: always
  sample: 590.48.01
cuda_version:
  description: The highest version of CUDA that the driver supports.
  type: str
  returned: always
  sample: "13.1"
kernel_module:
  description: Kind of the loaded kernel module, V(open) or V(proprietary).
  type: str
  returned: always
  sample: open
pci_gpus:
  description: Addresses of NVIDIA's display devices on the PCI bus, with or without a driver, sorted.
  type: list
  elements: str
  returned: always
  sample: ["0000:18:00.0", "0000:2a:00.0"]
gpus:
  description: The GPUs that answer, by index.
  type: list
  elements: dict
  returned: always
  contains:
    index:
      description: Number of the GPU on this host, from 0, as C(nvidia-smi) counts. It can change with a reboot.
      type: int
      sample: 0
    uuid:
      description: Name of the GPU that stays.
      type: str
      sample: GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10
    name:
      description: Product name.
      type: str
      sample: NVIDIA H100 80GB HBM3
    architecture:
      description: Architecture. Old drivers do not give it.
      type: str
      sample: Hopper
    compute_capability:
      description: Compute capability.
      type: str
      sample: "9.0"
    pci_address:
      description: Address on the PCI bus, as in RV(pci_gpus).
      type: str
      sample: "0000:18:00.0"
    memory_mib:
      description: Memory, in MiB. V(null) where the GPU shares the host's.
      type: int
      sample: 81559
    persistence:
      description: Whether the driver stays loaded while nobody uses the GPU.
      type: bool
      sample: true
    compute_mode:
      description: Who may compute on it, V(Default), V(Exclusive_Process) or V(Prohibited).
      type: str
      sample: Default
    ecc:
      description: Correction of memory errors, and the errors since the driver was loaded.
      type: dict
      contains:
        current:
          description: Whether it is on.
          type: bool
          sample: true
        pending:
          description: Whether it will be on after a reboot.
          type: bool
          sample: true
        uncorrected:
          description: Number of errors that could not be corrected.
          type: int
          sample: 0
        corrected:
          description: Number of errors that were corrected.
          type: int
          sample: 0
    retired:
      description: Pages of memory that were taken out of use, on cards before Ampere.
      type: dict
      contains:
        pages:
          description: Number of pages.
          type: int
          sample: 2
        pending:
          description: Whether more are at the next reboot.
          type: bool
          sample: false
    remapped:
      description: Rows of memory that were replaced by spare ones, from Ampere on.
      type: dict
      contains:
        correctable:
          description: Number of rows, because of errors that could be corrected.
          type: int
          sample: 0
        uncorrectable:
          description: Number of rows, because of errors that could not.
          type: int
          sample: 0
        pending:
          description: Whether more are at the next reset.
          type: bool
          sample: false
        failed:
          description: Whether one could not be replaced.
          type: bool
          sample: false
    power_limit_w:
      description: Power limit, in watts.
      type: float
      sample: 700.0
    power_limit_min_w:
      description: The lowest limit that can be set, in watts.
      type: float
      sample: 200.0
    power_limit_max_w:
      description: The highest limit that can be set, in watts.
      type: float
      sample: 700.0
    processes:
      description: Number of processes on the GPU.
      type: int
      sample: 0
    health:
      description: V(ok), V(bad), or V(null) where the GPU gives no sign of it, as many consumer cards.
      type: str
      sample: ok
    problems:
      description:
        - What is bad, in sentences. Where the health is not V(bad), sensors that fail, which keep nobody from the GPU.
      type: list
      elements: str
      sample: ["Memory rows wait for a reset to be remapped."]
    mig:
      description: How the GPU is divided (Multi-Instance GPU).
      type: dict
      contains:
        current:
          description: Whether it is divided; V(null) for a GPU that cannot be.
          type: bool
          sample: true
        pending:
          description: Whether it will be after a reset.
          type: bool
          sample: true
        instances:
          description: Its MIG devices. There can be none although it is divided.
          type: list
          elements: dict
          contains:
            uuid:
              description: Name of the MIG device. It changes when the layout is made anew.
              type: str
              sample: MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde
            profile:
              description: Slices and memory.
              type: str
              sample: 1g.10gb
            gi:
              description: Number of the GPU instance.
              type: int
              sample: 9
            ci:
              description: Number of the compute instance in it.
              type: int
              sample: 0
            memory_mib:
              description: Memory, in MiB; shared by the compute instances of one GPU instance.
              type: int
              sample: 9984
            position:
              description: Number of the MIG device on its GPU, as in CDI's C(nvidia.com/gpu=0:1).
              type: int
              sample: 1
    numa_nodes:
      description: Memory nodes near the GPU.
      type: list
      elements: int
      sample: [0]
    cpus:
      description: CPUs near the GPU, in the kernel's list syntax.
      type: str
      sample: 0-31,64-95
    nics:
      description:
        - The RDMA devices nearest to the GPU of those that have an active port; none that is on another memory node.
      type: list
      elements: str
      sample: [mlx5_0]
    withheld:
      description:
        - Why containers do not get the GPU, whatever its health, V(excluded) by O(exclude), or V(vgpu_host), it is for
          virtual machines. V(null) where nothing keeps it from them.
      type: str
      sample: excluded
topology:
  description: How the GPUs are linked.
  type: dict
  returned: always
  contains:
    links:
      description: Each pair once. Empty when not known, as where there are MIG devices.
      type: list
      elements: dict
      contains:
        a:
          description: Index of one GPU.
          type: int
          sample: 0
        b:
          description: Index of the other one, which is higher.
          type: int
          sample: 1
        link:
          description:
            - V(NV18) for 18 NVLinks; without them the farthest that lies between, V(PIX) one PCI bridge, V(PXB)
              several, V(PHB) the host bridge, V(NODE) several host bridges of a memory node, V(SYS) the way to another
              one.
          type: str
          sample: NV18
infiniband:
  description: Whether the host has an RDMA device, InfiniBand or RoCE, in C(/sys/class/infiniband).
  type: bool
  returned: always
  sample: true
machine:
  description: What the host is, as C(uname) names it.
  type: str
  returned: always
  sample: x86_64
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_info import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

SPEC = {
    "nvidia_smi_path": {"type": "path"},
    "sysfs_root": {"type": "path", "default": "/sys"},
    "proc_root": {"type": "path", "default": "/proc"},
    "topology": {"type": "bool", "default": True},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 60},
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    given = module.params
    if given["timeout"] < 1:
        module.fail_json(msg=f"timeout is {given['timeout']}: expected seconds, 1 or more. Set it to 60.")
    smi = given["nvidia_smi_path"] or module.get_bin_path("nvidia-smi", opt_dirs=["/usr/lib/wsl/lib"])
    sysfs, proc = Path(given["sysfs_root"]), Path(given["proc_root"])
    try:
        report = observe(within(given["timeout"]), smi, sysfs, proc, given["topology"], exclude=given["exclude"])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **asdict(report))


if __name__ == "__main__":
    main()
