#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the places of accounts on a node, and copy their settings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_place
short_description: Make the places of accounts on a node, and copy their settings
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes a directory for each account below one that only root enters. What lies in it is made with the account's ids,
    and a link that lies there is never followed.
  - Copies files and directories of the account's home to C(<top>/.settings/<account>), read with the account's ids.
    Links, what is no regular file, what the account may not read and what is large are left out and named.
  - What is wrong with the place of one account is returned, and stops no other.
options:
  top:
    description: Directory of all places. No directory of its path may be changed by others than root.
    type: path
    required: true
  places:
    description: The accounts, all of them. Copies of the settings of others are removed; their places stay.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account, and of its directory.
        type: str
        required: true
      uid:
        description: Its user id.
        type: int
        required: true
      gid:
        description: Its group id.
        type: int
        required: true
      directories:
        description: Directories to make in its place.
        type: list
        elements: str
        default: []
      homes:
        description: The directory in which its home lies.
        type: path
        default: /home
      settings:
        description: Files and directories of its home to copy. Where it is left out, the copies stay as they are.
        type: list
        elements: str
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows owners and modes; of the copies which ones change, not what is in them.
seealso:
  - module: gpustead.cluster.binds
"""

EXAMPLES = r"""
- name: Make a place for ada
  gpustead.cluster.local_place:
    top: /var/lib/gpustead/workspace
    places:
      - {name: ada, uid: 1500, gid: 1500, directories: [cache], settings: [.gitconfig]}

- name: Places of two accounts, one of which has its settings on the share
  gpustead.cluster.local_place:
    top: /var/lib/gpustead/workspace
    places:
      - {name: ada, uid: 1500, gid: 1500, directories: [cache, vscode-server]}
      - {name: grace, uid: 1501, gid: 1501, homes: /mnt/nas/users, settings: [.gitconfig, .config/nvim]}
  register: places

- name: Say whose place could not be made
  ansible.builtin.debug:
    var: places.refused
"""

RETURN = r"""
settings:
  description: By account, those that were copied.
  returned: success
  type: dict
refused:
  description: Accounts whose place cannot be used (C(name)), with C(what), C(expected) and C(remedy).
  returned: success
  type: list
  elements: dict
left_out:
  description: The settings that were not copied, and why.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import local_place as library

PLACE = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int", "required": True},
    "directories": {"type": "list", "elements": "str", "default": []},
    "homes": {"type": "path", "default": "/home"},
    "settings": {"type": "list", "elements": "str"},
}
ARGUMENTS = {
    "top": {"type": "path", "required": True},
    "places": {"type": "list", "elements": "dict", "required": True, "options": PLACE},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    top, check = module.params["top"], module.check_mode
    done = {}
    try:
        changes = library.make_top(top, check)
        changes += library.forget_others(top, [place["name"] for place in module.params["places"]], check)
        for place in module.params["places"]:
            account = library.PlaceOwner(place["name"], place["uid"], place["gid"], place["homes"])
            found = library.apply(top, account, place["directories"], place["settings"], check)
            done[account.name] = found
            changes += found.changes
    except (GpusteadError, OSError) as error:
        module.fail_json(msg=shown(error))
    # The names of what is copied are an account's.
    before, after = ("".join(f"{shown(c[0])}: {c[side]}\n" for c in changes if c[side]) for side in (1, 2))
    module.exit_json(
        changed=bool(changes),
        diff={"before": before, "after": after},
        settings={name: found.settings for name, found in done.items()},
        refused=[vars(Refusal.of(name, found.refused)) for name, found in done.items() if found.refused],
        left_out=[shown(reason) for found in done.values() for reason in found.left_out],
    )


if __name__ == "__main__":
    main()
