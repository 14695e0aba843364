#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/node_records."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_records_info
short_description: Read what the nodes of the cluster say about themselves
description:
  - Reads the records C(<host>.json) that each node leaves in a directory on the NAS.
  - A record that is damaged, is of another host, or is no regular file, is reported and left out.
  - A process with the given ids reads, within limits of time and size, and through no symbolic link.
version_added: 0.1.0
author: The gpustead developers (@gpustead)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Changes nothing, in check mode or not.
  diff_mode:
    support: none
    description: There is no diff.
  platform:
    platforms: posix
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  dir:
    description: Directory with the records, below O(root). One that does not exist holds no records.
    type: str
    default: .cluster/nodes
  hosts:
    description: Hosts whose records are read. Default all that are there, up to 5,000.
    type: list
    elements: str
  uid:
    description: User id to read as. The records must belong to it.
    type: int
    required: true
  gid:
    description: Group id to read as.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Read the records
  gpustead.cluster.node_records_info:
    root: /mnt/nas
    uid: 941
    gid: 941
  register: nodes

- name: Show the slots of gpu01
  ansible.builtin.debug:
    msg: "{{ nodes.records.gpu01.slots }}"
"""

RETURN = r"""
records:
  description: Record of each host, by its name in the inventory.
  type: dict
  returned: always
  sample:
    gpu01:
      host: gpu01
      address: 10.0.0.11
      slots: 8
      gpus: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
      interface: eth0
      ssh_mesh_port: 2222
      machine_id: 5b0e1f0c6a7d4e0b8d1c2f3a4b5c6d7e
damaged:
  description: Files that are not the record of the host they are named after.
  type: list
  elements: dict
  returned: always
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

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.node_records import read_records


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "dir": {"type": "str", "default": ".cluster/nodes"},
            "hosts": {"type": "list", "elements": "str"},
            "uid": {"type": "int", "required": True},
            "gid": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        found = read_records(
            asked["root"],
            Identity(asked["uid"], asked["gid"]),
            directory=asked["dir"],
            hosts=asked["hosts"],
            owner=asked["uid"],
        )
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        records={host: asdict(record) for host, record in found.records.items()},
        damaged=[{"file": name, "reason": reason} for name, reason in found.damaged],
    )


if __name__ == "__main__":
    main()
