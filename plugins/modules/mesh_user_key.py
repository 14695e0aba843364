#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh_user_key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_user_key
short_description: The SSH key of the mesh's user, on the share
version_added: "0.1.0"
author: gpustead developers
description:
  - Makes an Ed25519 key on the share where there is none, which its owner alone can read. Of several nodes that do it
    at the same time one is the first, and the others take its key.
  - The public key is read out of the private one, as its owner and within limits of time and size. A file that is no
    such key, is no regular file, or belongs to somebody else, is refused.
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  path:
    description: The private key, below O(root).
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
  layout_owner:
    description: The account that the directory belongs to; its group may write there.
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
  comment:
    description: What the key is called.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Where there is no key yet, RV(public) is empty.
"""

EXAMPLES = r"""
- name: The key with which the mesh's user goes from node to node
  gpustead.cluster.mesh_user_key:
    root: /mnt/nas
    path: .cluster/mesh/id_ed25519
    owner: 1500
    group: 1500
    layout_owner: {uid: 941, gid: 941}
    comment: ada@mesh
"""

RETURN = r"""
public:
  description: The public key, with O(comment).
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_user_key import settle
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import Entry

IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "path": {"type": "str", "required": True},
            "owner": {"type": "int", "required": True},
            "group": {"type": "int", "required": True},
            "layout_owner": {"type": "dict", "required": True, "options": IDS},
            "comment": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    asked, layout = module.params, module.params["layout_owner"]
    entry = Entry(asked["path"], "file", asked["owner"], asked["group"], 0o600, through=layout["gid"])
    try:
        changed, public = settle(
            asked["root"],
            entry,
            Identity(**layout),
            asked["comment"],
            module.run_command,
            check=module.check_mode,
        )
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, public=f"{public} {asked['comment']}" if public else "")


if __name__ == "__main__":
    main()
