#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/node_removal."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_removal
short_description: Take a node off the share of the mesh
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Writes which host keys are revoked, and takes a node off the list of the nodes and the hostfile; then its records
    go. The containers of the mesh see it within seconds, those of a node that was down as soon as it is back.
  - It runs on any node that has the share. Nobody's data is touched.
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  layout_owner:
    description: The account, which nobody logs in as, that the layout of the share belongs to.
    type: dict
    required: true
    suboptions:
      uid:
        description: Its uid.
        type: int
        required: true
      gid:
        description: Its gid.
        type: int
        required: true
  node:
    description: Name of the node.
    type: str
    required: true
  hosts:
    description: The nodes that stay, in the order of the hostfile.
    type: list
    elements: str
    required: true
  revoked:
    description: All keys that are revoked, as M(gpustead.cluster.mesh_revocation) returns them.
    type: str
    required: true
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.mesh_revocation
  - module: gpustead.cluster.node_drain
"""

EXAMPLES = r"""
- name: Take gpu02 off the share
  gpustead.cluster.node_removal:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    node: gpu02
    hosts: [gpu01, gpu03]
    revoked: "{{ revocation.revoked }}"

- name: See what that would change
  gpustead.cluster.node_removal:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    node: gpu02
    hosts: [gpu01, gpu03]
    revoked: ""
  check_mode: true
  diff: true
  register: would

- name: Show it
  ansible.builtin.debug:
    var: would.diff
"""

RETURN = r"""
{}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.node_removal import remove
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import diff
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "layout_owner": {"type": "dict", "required": True, "options": IDS},
    "node": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "revoked": {"type": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    layout = Identity(**asked["layout_owner"])
    try:
        done = remove(asked["root"], layout, asked["node"], asked["hosts"], asked["revoked"], check=module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    module.exit_json(changed=any(change.changed for change in done.changes), diff=diff(done.entries, done.changes))


if __name__ == "__main__":
    main()
