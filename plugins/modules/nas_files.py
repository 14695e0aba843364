#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files on a network share, each written as its owner."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_files
short_description: Directories and files on a network share, each written as its owner
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Makes directories and files on a share, all of them in one exchange. Each is written by a process with the
    ids of its owner, because root is nobody on an export with root squashing. Where that process may not write and
    all directories on the way are for root alone to change, root writes and gives the result to the owner.
  - Files are replaced atomically. What belongs to somebody else, is of another kind, or is reached through a symbolic
    link, is never touched but refused.
options:
  root:
    description: Where the share is mounted.
    type: path
    required: true
  require_mount:
    description: Refuse to write where nothing is mounted.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that the share has for each entry. All of them together have five times as long, and each owner an equal
        part of what is left of that.
    type: int
    default: 60
  keep_going:
    description:
      - Make all entries that can be, and name the others in RV(refused), instead of failing with the first. What lies
        below a refused entry is refused with it.
    type: bool
    default: false
  layout_owner:
    description:
      - The account, which nobody logs in as, that the layout of the share belongs to. Root, where it is not squashed,
        works in its directories as in its own.
    type: dict
    suboptions:
      uid:
        description: Its uid.
        type: int
        required: true
      gid:
        description: Its gid, which no other account has.
        type: int
        required: true
  check_root:
    description:
      - With O(keep_going), name in RV(refused) a root of the share in which others than root and O(layout_owner) may
        rename what lies there.
    type: bool
    default: false
  entries:
    description: Directories and files, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path below O(root).
        type: str
        required: true
      state:
        description:
          - What should be there. A directory must be empty to be removed.
          - V(existing) is a file, and V(existing_directory) a directory, that something else makes; where it is there
            its group and permissions are put right.
          - V(link) is made where nothing is there, with the directories above it; whatever is there stays.
        type: str
        choices: [directory, file, existing, existing_directory, link, absent]
        required: true
      owner:
        description: uid of the owner.
        type: int
        required: true
      group:
        description: gid.
        type: int
        required: true
      mode:
        description: Permissions, in octal, as a string. Required but for V(absent) and V(link).
        type: str
      target:
        description: Where a link leads. What it names need not be there.
        type: str
      content:
        description: Content of a file.
        type: str
      generate:
        description:
          - Number of random bytes. The file gets a token of so many bytes, in URL-safe base64, when it is not
            there; it is never rewritten, returned or logged.
        type: int
      secret:
        description: Whether the content stays out of the diff.
        type: bool
        default: false
      once:
        description:
          - Whether O(entries[].content) is only for a file that is not there yet.
          - A directory with it gets its group and mode only while it is empty; it is for those in places where several
            accounts may write, and could put another's in its stead.
        type: bool
        default: false
      through:
        description:
          - gid with which the entry is made, where that group may write in the directory above; it gets
            O(entries[].group) afterwards. In a sticky directory of a group that no account has, accounts own entries
            that they can neither rename nor remove.
        type: int
      former:
        description: uids from which the entry is taken, should it belong to one of them.
        type: list
        elements: int
        default: []
      inherit:
        description:
          - Whether what is made in a directory gets its permissions for the group, whatever the umask (a default ACL).
          - Where the file system has no ACLs, that is left to the umask.
        type: bool
        default: false
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change. Where nothing is mounted yet, everything would.
  diff_mode:
    description: Shows the entries before and after, without secrets.
seealso:
  - module: gpustead.cluster.share_read_info
  - module: gpustead.cluster.host_files
"""

EXAMPLES = r"""
- name: A user's directory and a token of their own
  gpustead.cluster.nas_files:
    root: /mnt/nas
    entries:
      - {path: users/ada, state: directory, owner: 1500, group: 1500, mode: "0700"}
      - {path: users/ada/token, state: file, owner: 1500, group: 1500, mode: "0600", generate: 32}

- name: Directories of users in one that they cannot write, all that can be
  gpustead.cluster.nas_files:
    root: /mnt/nas
    layout_owner: {uid: 941, gid: 941}
    keep_going: true
    entries:
      - {path: users, state: directory, owner: 941, group: 941, mode: "1775"}
      - {path: users/ada, state: directory, owner: 1500, group: 1500, mode: "0700", through: 941}
  register: made

- name: A link that is made where nothing is, and a file that goes
  gpustead.cluster.nas_files:
    root: /mnt/nas
    entries:
      - {path: users/ada/.vscode-server, state: link, target: /local/vscode-server, owner: 1500, group: 1500}
      - {path: users/ada/.old, state: absent, owner: 1500, group: 1500}
"""

RETURN = r"""
entries:
  description: Whether each entry was changed, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path below the root.
      type: str
    changed:
      description: Whether it was changed.
      type: bool
refused:
  description: With O(keep_going), the entries that were left as they are. C(.) is the root of the share.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Path below the root.
      type: str
    what:
      description: What is there.
      type: str
    expected:
      description: What should be.
      type: str
    remedy:
      description: What to do.
      type: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import nas_files as nas
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import (
    apply_all,
    check_root,
    is_mounted,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ENTRY = {
    "path": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "required": True,
        "choices": ["directory", "file", "existing", "existing_directory", "link", "absent"],
    },
    "owner": {"type": "int", "required": True},
    "group": {"type": "int", "required": True},
    "mode": {"type": "str"},
    "target": {"type": "str"},
    "content": {"type": "str", "no_log": False},
    "generate": {"type": "int"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "once": {"type": "bool", "default": False},
    "through": {"type": "int"},
    "former": {"type": "list", "elements": "int", "default": []},
    "inherit": {"type": "bool", "default": False},
}
IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "require_mount": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "keep_going": {"type": "bool", "default": False},
    "layout_owner": {"type": "dict", "options": IDS},
    "check_root": {"type": "bool", "default": False},
    "entries": {"type": "list", "elements": "dict", "required": True, "options": ENTRY},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("check_root", True, ("layout_owner", "keep_going"))],
    )
    root, ids = module.params["root"], module.params["layout_owner"] or {}
    refused: list[Refusal] = []
    try:
        entries = [nas.parse(raw) for raw in module.params["entries"]]
        if not module.params["require_mount"] or is_mounted(root, module.check_mode):
            if module.params["check_root"]:
                refused += check_root(root, Identity(**ids), module.params["timeout"])
            changes = apply_all(
                root,
                entries,
                module.check_mode,
                module.params["timeout"],
                refused=refused if module.params["keep_going"] else None,
                trusted=tuple(ids.values()),
            )
        else:
            changes = [nas.foreseen(entry) for entry in entries]
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    module.exit_json(
        changed=any(change.changed for change in changes),
        entries=[{"path": entry.path, "changed": change.changed} for entry, change in zip(entries, changes)],
        refused=[{name: shown(text) for name, text in asdict(one).items()} for one in refused],
        diff=nas.diff(entries, changes),
    )


if __name__ == "__main__":
    main()
