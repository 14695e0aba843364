#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/node_drain."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_drain
short_description: Take a node out of new runs of the mesh, or back
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Leaves a record on the share, C(.cluster/mesh/drained/<node>.json), and the node out of the hostfile. C(mesh-run)
    leaves out a node with such a record whatever stands in the hostfile, so that an interrupted run leaves nothing half
    done.
  - It runs on any node that has the share; the one that is drained may be down.
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
    description: The nodes of the mesh, in the order of the hostfile.
    type: list
    elements: str
    required: true
  state:
    description: Whether it takes no new runs, or does.
    type: str
    choices: [drained, undrained]
    default: drained
  since:
    description: Now, in UTC. Of a node that is drained already what stands there stays.
    type: str
    default: ""
  by:
    description: Who drains it.
    type: str
    default: ""
  reason:
    description: Why, for people.
    type: str
    default: ""
  until:
    description: When what runs there is to have ended, in UTC.
    type: str
    default: ""
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.mesh_share
  - module: gpustead.cluster.node_work_info
"""

EXAMPLES = r"""
- name: Drain gpu02
  gpustead.cluster.node_drain:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    node: gpu02
    hosts: [gpu01, gpu02]
    since: "2026-11-30T20:15:00Z"
    by: ops@controller
    reason: new driver

- name: Have it take runs again
  gpustead.cluster.node_drain:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    node: gpu02
    hosts: [gpu01, gpu02]
    state: undrained
  register: undrained

- name: Say what it was drained for
  ansible.builtin.debug:
    msg: "{{ undrained.before.reason }}"
  when: undrained.before
"""

RETURN = r"""
before:
  description: The record that there was, or empty.
  type: dict
  returned: success
record:
  description: The record that there is, or empty.
  type: dict
  returned: success
  contains:
    node: {description: Its name., type: str}
    since: {description: "Since when it is drained, in UTC.", type: str}
    by: {description: Who did it., type: str}
    reason: {description: Why., type: str}
    until: {description: "When what ran there was to have ended, in UTC.", type: str}
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.node_drain import drain, undrain
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import Drained
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import diff
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "layout_owner": {"type": "dict", "required": True, "options": IDS},
    "node": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "undrained"], "default": "drained"},
    **{name: {"type": "str", "default": ""} for name in ("since", "by", "reason", "until")},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked, layout = module.params, Identity(**module.params["layout_owner"])
    where = (asked["root"], layout)
    try:
        if asked["state"] == "undrained":
            done = undrain(*where, asked["node"], asked["hosts"], check=module.check_mode)
        else:
            record = Drained(**{key: asked[key] for key in ("node", "since", "by", "reason", "until")})
            done = drain(*where, record, asked["hosts"], check=module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    module.exit_json(
        changed=any(change.changed for change in done.changes),
        before=asdict(done.before) if done.before else {},
        record=asdict(done.record) if done.record else {},
        diff=diff(done.entries, done.changes),
    )


if __name__ == "__main__":
    main()
