#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/gpus/gpu_proof."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_proof
short_description: Prove that containers have the GPUs that were meant for them
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Runs C(nvidia-smi -L) in the running containers of a compose project, and compares what it lists with what is
    expected. Sees also that they may open C(/dev/nvidia-uvm), without which CUDA fails though C(nvidia-smi) works.
  - A container can lose its GPUs while it runs, after C(systemctl daemon-reload) for example. It gets them back only
    when it is created anew.
  - Changes nothing.
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
options:
  project:
    description: Name of the compose project.
    type: str
    required: true
  services:
    description: Its services that have GPUs.
    type: list
    elements: str
    required: true
  uuids:
    description:
      - UUIDs of the GPUs, and of the MIG instances, that each of these containers must see. No others may be seen.
      - Of a GPU that is divided into MIG instances only these are named.
    type: list
    elements: str
    required: true
  user:
    description: Account in the containers that asks, as those who use them do. Empty means that of the image.
    type: str
    default: ""
  required:
    description: Whether to fail where one container is not as expected.
    type: bool
    default: true
  timeout:
    description: Seconds that each container has to answer.
    type: int
    default: 60
seealso:
  - module: gpustead.cluster.gpu_info
"""

EXAMPLES = r"""
- name: See that the mesh has the node's only GPU
  gpustead.cluster.gpu_proof:
    project: gpustead-mesh
    services: [mesh]
    uuids: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
    user: ada

- name: See that no service of a workspace has a GPU
  gpustead.cluster.gpu_proof:
    project: gpustead-workspace
    services: [jupyter, ssh]
    uuids: []

- name: Look which GPUs the containers have, without failing for it
  gpustead.cluster.gpu_proof:
    project: gpustead-workspace
    services: [jupyter, ssh]
    uuids: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
    user: ada
    required: false
  register: proof
"""

RETURN = r"""
ok:
  description: Whether every container sees exactly what was expected.
  type: bool
  returned: always
lacking:
  description: The services whose containers do not.
  type: list
  elements: str
  returned: always
  sample: [jupyter]
containers:
  description: What each container sees.
  type: list
  elements: dict
  returned: always
  contains:
    container:
      description: Name of the service.
      type: str
      sample: jupyter
    ok:
      description: Whether it sees what was expected.
      type: bool
    seen:
      description: UUIDs that it sees.
      type: list
      elements: str
    missing:
      description: UUIDs that it should see and does not.
      type: list
      elements: str
    unexpected:
      description: UUIDs that it sees and should not.
      type: list
      elements: str
    closed:
      description: Device nodes that CUDA needs and that it has not, or may not open.
      type: list
      elements: str
    said:
      description: The last words of C(nvidia-smi) or Docker where it failed, else empty.
      type: str
      sample: "Failed to initialize NVML: Unknown Error"
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import ANSWER, Proof, prove, refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import needs_uvm
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "project": {"type": "str", "required": True},
    "services": {"type": "list", "elements": "str", "required": True},
    "uuids": {"type": "list", "elements": "str", "required": True},
    "user": {"type": "str", "default": ""},
    "required": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
}


def _result(proof: Proof) -> dict[str, Any]:
    return {
        "container": proof.container,
        "ok": proof.ok,
        "seen": list(proof.seen),
        "missing": proof.missing,
        "unexpected": proof.unexpected,
        "said": proof.said,
        "closed": list(proof.closed),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    run = within(params["timeout"], ANSWER)  # a GPU that was lost can hold nvidia-smi for ever
    inside = ["docker", "compose", "--project-name", params["project"], "exec", "-T"]
    inside += ["--user", params["user"]] if params["user"] else []
    uvm = needs_uvm(Path("/dev"))
    proofs = [prove(service, [*inside, service], params["uuids"], run, uvm) for service in params["services"]]
    wrong = [proof for proof in proofs if not proof.ok]
    result = {
        "ok": not wrong,
        "lacking": [proof.container for proof in wrong],
        "containers": [_result(proof) for proof in proofs],
    }
    if wrong and params["required"]:
        module.fail_json(msg=str(refusal(params["project"], wrong)), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
