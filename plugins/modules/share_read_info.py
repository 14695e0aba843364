#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/as_account: one file of a share, read as its owner."""

from __future__ import annotations

DOCUMENTATION = r"""
module: share_read_info
short_description: Read one file on a network share, as its owner
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Reads a file of a share in a process with the ids of its owner, within limits of time and size. What is a symbolic
    link or is reached through one, is no regular file, or belongs to somebody else, is a problem and is not read.
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  path:
    description: The file, below O(root).
    type: str
    required: true
  uid:
    description: uid that the file must belong to, and that reads it.
    type: int
    required: true
  gid:
    description: gid to read as.
    type: int
    required: true
  size:
    description: Longest content, in bytes.
    type: int
    default: 1048576
  timeout:
    description: Seconds that the share has.
    type: int
    default: 30
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.nas_files
  - module: ansible.builtin.slurp
"""

EXAMPLES = r"""
- name: Read the record of the images in use
  gpustead.cluster.share_read_info:
    root: /mnt/nas
    path: .cluster/images.json
    uid: 941
    gid: 941
  register: record

- name: Show it
  ansible.builtin.debug:
    msg: "{{ record.content | b64decode | from_json }}"
  when: record.exists

- name: Read a small file of an account, within a second
  gpustead.cluster.share_read_info:
    root: /mnt/nas
    path: users/ada/.gitconfig
    uid: 1500
    gid: 1500
    size: 4096
    timeout: 1
"""

RETURN = r"""
content:
  description: The content in base64, as M(ansible.builtin.slurp) has it. Empty where there is none.
  type: str
  returned: always
exists:
  description: Whether anything is there.
  type: bool
  returned: always
problem:
  description: Why it was not read; empty if nothing is wrong.
  type: str
  returned: always
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity, read
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "path": {"type": "str", "required": True},
            "uid": {"type": "int", "required": True},
            "gid": {"type": "int", "required": True},
            "size": {"type": "int", "default": 1 << 20},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    asked, data, problem = module.params, None, ""
    who = Identity(asked["uid"], asked["gid"])
    try:
        data = read(
            asked["root"],
            asked["path"],
            who,
            size=asked["size"],
            timeout=asked["timeout"],
            owner=who.uid,
        )
    except GpusteadError as error:
        problem = shown(error)
    module.exit_json(
        changed=False,
        content=base64.b64encode(data or b"").decode(),
        exists=data is not None or bool(problem),
        problem=problem,
    )


if __name__ == "__main__":
    main()
