# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/gpus/nvidia_plan: what role nvidia does on a host and holds in its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_plan import Declared, Found, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: nvidia_plan
short_description: What role nvidia does on a host and holds in its receipt
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes of the settings of the role, and of what its tasks have found so far, what the next ones take.
options:
  _input:
    description:
      - The settings. C(driver) and C(driver_packages) say what becomes of the driver, C(driver_files) and
        C(toolkit_files) which files the role leaves with the driver and with the toolkit, C(toolkit_packages) the
        packages of the toolkit, C(boot_unit) and C(gpus_file) the unit for the boot and the file for other roles,
        C(smi) the command nvidia-smi, C(persistence) whether persistence mode is kept on, C(check_mode) whether nothing
        may be changed.
    type: dict
    required: true
  state:
    description: State of the GPUs, as M(gpustead.cluster.gpu_info) returns it.
    type: str
    required: true
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    default: []
  containers:
    description: What M(gpustead.cluster.nvidia_containers_info) returned before anything was set up.
    type: dict
    default: {}
  obstacles:
    description: Its C(obstacles) after that. Default it was not asked again.
    type: list
    elements: str
  nodes:
    description: Device nodes of the driver, C(nodes) of M(gpustead.cluster.nvidia_device_nodes).
    type: list
    elements: str
    default: []
  problems:
    description: Why these or the CDI specification do not serve, C(problem) of that module and of
      M(gpustead.cluster.cdi_spec).
    type: list
    elements: str
    default: []
  boot_commands:
    description: C(at_boot) of M(gpustead.cluster.nvidia_settings).
    type: list
    elements: list
    default: []
  withheld:
    description: UUIDs of GPUs that the role leaves alone.
    type: list
    elements: str
    default: []
  refresh_unit:
    description: C(LoadState) of the toolkit's own unit for the CDI specification.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what is in the way of containers
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.nvidia_plan(state=gpus.state, containers=containers)).obstacles }}"
"""

RETURN = r"""
_value:
  description:
    - C(answers), C(has_driver), C(sets_up_containers), C(hook_is_known) and C(refreshes_cdi) decide which tasks run;
      C(mode) is how containers get GPUs, V(cdi) or V(runtime), null where they get none, C(obstacles) what is in the
      way; C(former_keys) and C(former_files) are keys of C(daemon.json) and files of the last run, and C(receipt) what
      the receipt holds, by kind.
  type: dict
"""


def nvidia_plan(declared: Mapping[str, Any], **found: Any) -> dict[str, Any]:
    # Not asdict: what Ansible hands on of a receipt cannot be copied by its type.
    return dict(vars(plan(Declared(**declared), Found(**found))))


FilterModule = filter_module(nvidia_plan=nvidia_plan)
