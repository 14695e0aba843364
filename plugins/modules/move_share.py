#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nas/move_share and copy_tree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: move_share
short_description: Move the files of a single node from its own disk to a share
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - A node without a NAS has the places of the share on its own disk. This copies them to a share, keeps them still,
    compares them, and forgets that there was such a place. C(playbooks/move_to_nas.yml) has the order.
  - Each entry is made, and read again, with the ids of its owner, so that an export with root squashing takes it. What
    is on the share and has the size and the time of the original stays; what is newer there is left and named. Nothing
    is removed on either side.
  - It can be repeated, and killed, at any time. On a node that has no such place it does nothing.
options:
  state:
    description:
      - V(copied) copies. Others may write meanwhile; what they have changed is copied the next time.
      - V(frozen) lets nobody write any more, and fails where containers or processes are in there.
      - V(compared) reads both sides, and names what is not the same.
      - V(thawed) lets the place be written again.
      - V(settled) forgets the place, once the share is mounted over it. The files stay beneath.
    type: str
    choices: [copied, frozen, compared, thawed, settled]
    required: true
  path:
    description: Where the places are, and where the share will be mounted.
    type: path
    required: true
  source:
    description: What is mounted, as of M(gpustead.cluster.nas_mounts).
    type: str
    required: true
  fstype:
    description: Its kind.
    type: str
    required: true
  options:
    description: Its options.
    type: str
    default: ""
  timeout:
    description: Seconds for each command that is run, such as the one that mounts.
    type: int
    default: 120
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Mounts, copies and compares nothing. Says whether there is a place, and for V(frozen) who is in it.
  diff_mode:
    support: none
    description: What is copied is other people's.
seealso:
  - module: gpustead.cluster.nas_mounts
  - module: gpustead.cluster.nas_files
"""

EXAMPLES = r"""
- name: Copy the files to the NAS, while people work
  gpustead.cluster.move_share:
    state: copied
    path: /mnt/nas
    source: nas.example.org:/export/cluster
    fstype: nfs4
    options: hard,nosuid,nodev
  register: copied

- name: Let nobody write any more
  gpustead.cluster.move_share: {state: frozen, path: /mnt/nas, source: "nas:/export/cluster", fstype: nfs4}

- name: Compare both sides
  gpustead.cluster.move_share: {state: compared, path: /mnt/nas, source: "nas:/export/cluster", fstype: nfs4}
  register: compared
"""

RETURN = r"""
where:
  description: >-
    C(local) where the files are in the place on the own disk, C(shared) where the share is mounted over it, empty where
    there is no such place.
  returned: success
  type: str
entries:
  description: Files, links and directories that were looked at.
  returned: state is copied or compared
  type: int
size:
  description: Bytes of the files.
  returned: state is copied or compared
  type: int
copied:
  description: Entries that were made or written anew.
  returned: state is copied or compared
  type: int
left:
  description: The first of those that are not on the share as they are here, as lines.
  returned: state is copied or compared
  type: list
  elements: str
left_count:
  description: How many these are.
  returned: state is copied or compared
  type: int
special:
  description: Sockets, FIFOs and devices, which hold nothing to copy.
  returned: state is copied or compared
  type: int
extra:
  description: Entries of the directories that are on the share alone.
  returned: state is compared
  type: int
lost:
  description: Entries whose ACLs or attributes the share does not take.
  returned: state is copied or compared
  type: int
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import declared
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import copy_tree, move_share
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import DeclaredMount
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ARGUMENTS = {
    "state": {"type": "str", "choices": ["copied", "frozen", "compared", "thawed", "settled"], "required": True},
    "path": {"type": "path", "required": True},
    "source": {"type": "str", "required": True},
    "fstype": {"type": "str", "required": True},
    "options": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 120},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    mount = DeclaredMount(params["path"], params["source"], params["fstype"], params["options"])
    state, sets, run = params["state"], declared.read(), within(params["timeout"])
    move_share.awaken(mount, run)
    where = move_share.where(mount, sets, mounts.mounted())
    if state == "settled":
        return {"where": where, "changed": where == "shared" and move_share.settle(mount, run, check)}
    if where != "local":
        return {"where": where, "changed": False}
    if state == "frozen":
        move_share.freeze(mount.place, sets, run, check)
    elif state == "thawed" and not check:
        move_share.thaw(mount.place, sets, run)
    if state in ("frozen", "thawed") or check:
        return {"where": where, "changed": state != "compared"}
    with move_share.alone(), move_share.staged(mount, run) as stage:
        walk = copy_tree.copy if state == "copied" else copy_tree.compare
        found = asdict(walk(mount.place, stage))
    left = [shown(f"{one['name']} {one['what']}. {one['remedy']}", 500) for one in found["left"]]
    return {**found, "left": left, "where": where, "changed": found["copied"] > 0}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**work(module.params, module.check_mode))
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    except OSError as error:
        module.fail_json(msg=shown(of_system(error, "the files that are moved"), 2000))


if __name__ == "__main__":
    main()
