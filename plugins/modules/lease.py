#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nodes/lease."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: Keep two controllers from the same work
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Takes a lease on the share for what is to be done, keeps it, or gives it back. Where another controller has it, it
    fails and says who is at work, with what, and until when at the latest.
  - It is the running C(ansible-playbook)'s. One that was killed on the same controller has none any more; that of
    another controller ends at its time.
  - In check mode nothing is taken.
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
  name:
    description: Of what is leased; letters, digits, dots, dashes and underscores.
    type: str
    required: true
  what:
    description: What is being done, for people.
    type: str
    default: work
  seconds:
    description: How long it is to be at most.
    type: int
    default: 900
  state:
    description: Whether it is to be this run's, or nobody's.
    type: str
    choices: [taken, released]
    default: taken
  holder:
    description: What the action of this module says of the controller.
    type: dict
    default: {}
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    description: Nothing is taken.
seealso:
  - module: gpustead.cluster.node_drain
  - module: gpustead.cluster.mesh_rotation
"""

EXAMPLES = r"""
- name: Be the only one who drains the node
  gpustead.cluster.lease:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    name: gpu02
    what: drain of gpu02
  register: lease

- name: Give it back
  gpustead.cluster.lease:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    name: gpu02
    state: released

- name: Say whose it was
  ansible.builtin.debug:
    var: lease.by
"""

RETURN = r"""
by:
  description: Who this run is, and where.
  type: str
  returned: always
  sample: ops@controller
holder:
  description: Where it failed, whose it is.
  type: dict
  returned: failure
"""

import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import LEASES
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.lease import Lease, release, take

IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "layout_owner": {"type": "dict", "required": True, "options": IDS},
    "name": {"type": "str", "required": True},
    "what": {"type": "str", "default": "work"},
    "seconds": {"type": "int", "default": 900},
    "state": {"type": "str", "choices": ["taken", "released"], "default": "taken"},
    "holder": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    layout, holder, name = Identity(**asked["layout_owner"]), asked["holder"], asked["name"]
    token, by = str(holder.get("token", "")), str(holder.get("by", ""))
    if not token or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        module.fail_json(msg=f"name {name!r}: expected a name, and a run that it is for. Use it in a playbook.")
    found = None
    try:
        if asked["state"] == "released":
            release(asked["root"], layout, name, token)
        elif not module.check_mode:
            wanted = Lease(token, by, asked["what"], time.time() + asked["seconds"])
            found = take(asked["root"], layout, name, wanted, gone=str(holder.get("gone", "")))
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    if found:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.until))
        what = f"{found.by} is at work: {found.what}"
        module.fail_json(
            msg=f"{what}: expected one at a time. Wait for its end, {until} at the latest; "
            f"if it was killed, or is none of yours, remove {asked['root']}/{LEASES}/{name}.json.",
            holder={"token": found.token, "by": found.by},
        )
    module.exit_json(changed=False, by=by)  # that somebody is at work is no state of the cluster


if __name__ == "__main__":
    main()
