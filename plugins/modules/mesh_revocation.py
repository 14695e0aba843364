#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/host_keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_revocation
short_description: Revoke the host keys of a node that leaves the mesh
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Notes beside the key of the mesh's authority that a node was removed, and revokes the host keys that were certified
    for it. C(preflight) refuses the node from then on.
  - Runs where the authority's key lies, usually on the controller with C(delegate_to). It needs no passphrase.
options:
  authority_key:
    description: Path of the authority's private key. What is noted lies beside it.
    type: path
    required: true
  node:
    description: Name of the node.
    type: str
    required: true
  words:
    description: When, and by whom, for people.
    type: str
    required: true
  shown:
    description: Lines with the public keys that the node shows itself. They count where none was certified for it since
      the controller keeps these, and none that is another node's.
    type: str
    default: ""
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.mesh_authority
"""

EXAMPLES = r"""
- name: Revoke the keys of gpu02
  gpustead.cluster.mesh_revocation:
    authority_key: secrets/ssh_mesh_ca
    node: gpu02
    words: 2026-11-30 by ops
  delegate_to: localhost
  become: false
  register: revoked

- name: Say where nothing is known of it
  ansible.builtin.debug:
    msg: The key of gpu02 is not known here.
  when: revoked.known == 0

- name: Show what would be revoked
  gpustead.cluster.mesh_revocation:
    authority_key: secrets/ssh_mesh_ca
    node: gpu02
    words: 2026-11-30 by ops
  delegate_to: localhost
  become: false
  check_mode: true
"""

RETURN = r"""
known:
  description: How many keys of the node are revoked now.
  type: int
  returned: always
revoked:
  description: All keys that are revoked, as lines of C(known_hosts).
  type: str
  returned: always
removed_file:
  description: Where it stands that the node was removed.
  type: str
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys

ARGUMENTS = {
    "authority_key": {"type": "path", "required": True, "no_log": False},
    "node": {"type": "str", "required": True},
    "words": {"type": "str", "required": True},
    "shown": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    keys, node = HostKeys(Path(asked["authority_key"])), asked["node"]
    try:
        if module.check_mode:
            changed = node not in keys.removed()
        else:
            noted = keys.remove(node, asked["words"])
            changed = bool(keys.revoke(node, asked["shown"])) or noted
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"what is noted beside {asked['authority_key']}")))
    module.exit_json(
        changed=changed,
        known=len(keys.revoked_of(node)),
        revoked=keys.revoked_lines(),
        removed_file=str(keys.removed_file),
    )


if __name__ == "__main__":
    main()
