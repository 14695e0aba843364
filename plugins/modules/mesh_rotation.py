#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/authority_rotation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_rotation
short_description: Replace the SSH certificate authority of the mesh, step by step
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Does the next step of a rotation, where all nodes have done the one before. First a next authority is made, which
    nodes trust beside the old one; then it signs, and the old one is trusted still; then that is forgotten.
  - It runs where the authority's key lies, usually on the controller with C(delegate_to). What a step means for a node,
    role ssh_mesh does there.
options:
  key:
    description: Path of the authority's private key.
    type: path
    required: true
  passphrase:
    description: Passphrase of the private key.
    type: str
    required: true
  nodes:
    description:
      - Of each node of the inventory C(known_hosts) and C(certificate), what is in its files in base64; empty where it
        does not answer.
    type: dict
    required: true
  begin:
    description: Whether to begin a rotation where none is under way.
    type: bool
    default: false
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.mesh_authority
"""

EXAMPLES = r"""
- name: Begin a rotation
  gpustead.cluster.mesh_rotation:
    key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
    nodes: {gpu01: {}, gpu02: {}}
    begin: true
  delegate_to: localhost
  become: false
  register: rotation

- name: Say who holds up the next step
  ansible.builtin.debug:
    var: rotation.waits_for

- name: See what would be done
  gpustead.cluster.mesh_rotation:
    key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
    nodes: {gpu01: {}, gpu02: {}}
  delegate_to: localhost
  become: false
  check_mode: true
"""

RETURN = r"""
step:
  description: V(none), none is under way; V(trusted), nodes learn to trust the next authority; V(signed), it signs.
  type: str
  returned: success
said:
  description: How far it has come, in words.
  type: str
  returned: success
waits_for:
  description: The nodes that hold up the next step.
  type: list
  elements: str
  returned: success
"""

import base64
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.authority_rotation import NodeTrust, rotate
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import unlocked

ARGUMENTS = {
    "key": {"type": "path", "required": True, "no_log": False},
    "passphrase": {"type": "str", "required": True, "no_log": True},
    "nodes": {"type": "dict", "required": True},
    "begin": {"type": "bool", "default": False},
}


def trust_of(given: dict[str, Any]) -> NodeTrust | None:
    """What a node has; None where it has not said, or anything that it would not have."""
    try:
        texts = [base64.b64decode(given[name]).decode("utf-8", "replace") for name in NodeTrust.FIELDS]
    except (LookupError, TypeError, ValueError):
        return None
    return NodeTrust(*texts) if all(texts) else None


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    nodes = {name: trust_of(given or {}) for name, given in asked["nodes"].items()}
    try:
        with unlocked(asked["passphrase"]) as (run, _work):
            done = rotate(
                run, Path(asked["key"]), asked["passphrase"], nodes, begin=asked["begin"], check=module.check_mode
            )
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"authority {asked['key']}")))
    module.exit_json(changed=done.changed, step=done.step, said=str(done), waits_for=list(done.waits_for))


if __name__ == "__main__":
    main()
