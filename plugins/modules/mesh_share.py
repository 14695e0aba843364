#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/mesh_share and mesh_user_key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_share
short_description: What the mesh has on the share
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes directories and files on the share as M(gpustead.cluster.nas_files) does, and besides the two that only a node
    can make, the key of the mesh's user and the hostfile.
  - The key is an Ed25519 key that its owner alone can read, made where there is none. Of several nodes that do it at
    the same time one is the first, and the others take its key. The public key is read out of the private one, as its
    owner and within limits of time and size. A file that is no such key, is no regular file, or belongs to somebody
    else, is refused.
  - The hostfile has a line for each node that has left a record of its own, C(.cluster/nodes/<host>.json), with the
    slots in there. A record that is damaged, is of another host, or is no regular file, is returned and left out.
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  layout_owner:
    description: The account, which nobody logs in as, that the layout of the share and the records belong to.
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
  entries:
    description: Directories and files to make first, as M(gpustead.cluster.nas_files) has them.
    type: list
    elements: dict
    default: []
  key:
    description: The private key, as an entry without content, and its comment. Left out, none is made or read.
    type: dict
    suboptions:
      path:
        description: Path below O(root).
        type: str
        required: true
      owner:
        description: uid of the mesh's user.
        type: int
        required: true
      group:
        description: gid of the mesh's user.
        type: int
        required: true
      comment:
        description: What the key is called.
        type: str
        required: true
  hostfile:
    description: The hostfile, as an entry of O(entries) without content.
    type: dict
  hosts:
    description: With O(hostfile), the nodes in the order of its lines.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change. Where there is no key yet, RV(public) is empty.
  diff_mode:
    description: Shows the entries before and after, without the key.
seealso:
  - module: gpustead.cluster.nas_files
"""

EXAMPLES = r"""
- name: Make the directory of the mesh, and the key with which its user goes from node to node
  gpustead.cluster.mesh_share:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    entries:
      - {path: .cluster/mesh, state: directory, owner: 941, group: 941, mode: "1775"}
    key: {path: .cluster/mesh/id_ed25519, owner: 1500, group: 1500, comment: ada@mesh}

- name: Write the hostfile
  gpustead.cluster.mesh_share:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    hostfile: {path: .cluster/mesh/hostfile, state: file, owner: 941, group: 941, mode: "0644"}
    hosts: [gpu01, gpu02]

- name: Name the records that cannot be used
  ansible.builtin.debug:
    var: made.damaged
"""

RETURN = r"""
public:
  description: The public key, with its comment; empty without O(key).
  type: str
  returned: success
damaged:
  description: Files that are not the record of the host they are named after.
  type: list
  elements: dict
  returned: success
  contains:
    file:
      description: Name of the file.
      type: str
      sample: gpu02.json
    reason:
      description: What is wrong with it.
      type: str
      sample: "gpu02.json: schema 2: expected schema 1. Run the site playbook with --limit gpu02."
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_share import Desired, apply
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import ShareEntry, diff, parse
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
KEY = {
    "path": {"type": "str", "required": True},
    "owner": {"type": "int", "required": True},
    "group": {"type": "int", "required": True},
    "comment": {"type": "str", "required": True},
}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "layout_owner": {"type": "dict", "required": True, "options": IDS},
    "entries": {"type": "list", "elements": "dict", "default": []},
    "key": {"type": "dict", "options": KEY, "no_log": False},
    "hostfile": {"type": "dict"},
    "hosts": {"type": "list", "elements": "str", "default": []},
}


def desired(asked: dict[str, Any]) -> Desired:
    key, hostfile, through = asked["key"], asked["hostfile"], asked["layout_owner"]["gid"]
    return Desired(
        entries=[parse(raw) for raw in asked["entries"]],
        key=ShareEntry(key["path"], "file", key["owner"], key["group"], 0o600, through=through) if key else None,
        comment=key["comment"] if key else "",
        hostfile=parse({**hostfile, "content": ""}) if hostfile else None,
        hosts=asked["hosts"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    layout = Identity(**asked["layout_owner"])
    try:
        done = apply(asked["root"], layout, desired(asked), module.run_command, check=module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    module.exit_json(
        changed=any(change.changed for change in done.changes),
        public=done.public,
        damaged=[{"file": name, "reason": reason} for name, reason in done.damaged],
        diff=diff(done.entries, done.changes),
    )


if __name__ == "__main__":
    main()
