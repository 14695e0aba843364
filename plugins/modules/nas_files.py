#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files on a network share, each written as its owner."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_files
short_description: Directories and files on a network share, each written as its owner
version_added: "0.1.0"
author: gpustead developers
description:
  - Makes directories and files on a share, all of them in one exchange. Each is written by a process with the
    ids of its owner, because root is nobody on an export with root squashing. Where that process may not write and
    all directories on the way are for root alone to change, root writes and gives the result to the owner.
  - Files are replaced atomically. What belongs to somebody else, or is reached through a symbolic link, is never
    touched but refused.
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
    description: Seconds that the share has for each entry.
    type: int
    default: 60
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
          - V(existing) is a file that something else makes; where it is there its group and permissions are put right.
          - V(link) is made where nothing is there, with the directories above it; whatever is there stays.
        type: str
        choices: [directory, file, existing, link, absent]
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
attributes:
  check_mode:
    support: full
    description: Tells what would change. Where nothing is mounted yet, everything would.
  diff_mode:
    support: full
    description: Shows the entries before and after, without secrets.
"""

EXAMPLES = r"""
- name: A user's directory and a token of their own
  gpustead.cluster.nas_files:
    root: /mnt/nas
    entries:
      - {path: users/ada, state: directory, owner: 1500, group: 1500, mode: "0700"}
      - {path: users/ada/token, state: file, owner: 1500, group: 1500, mode: "0600", generate: 32}
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
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils import nas_files as nas
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

ENTRY = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["directory", "file", "existing", "link", "absent"]},
    "owner": {"type": "int", "required": True},
    "group": {"type": "int", "required": True},
    "mode": {"type": "str"},
    "target": {"type": "str"},
    "content": {"type": "str", "no_log": False},
    "generate": {"type": "int"},
    "secret": {"type": "bool", "default": False, "no_log": False},
}
ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "require_mount": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "entries": {"type": "list", "elements": "dict", "required": True, "options": ENTRY},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    root = module.params["root"]
    try:
        entries = [nas.parse(raw) for raw in module.params["entries"]]
        if os.path.ismount(root) or not module.params["require_mount"]:
            changes = nas.settle_all(root, entries, module.check_mode, module.params["timeout"])
        elif module.check_mode:
            changes = [nas.Change("", nas.describe(entry, entry.content)) for entry in entries]
        else:
            raise GpusteadError(f"nothing is mounted on {root}", "the share", "Run role nas first, or mount it.")
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=any(change.changed for change in changes),
        entries=[{"path": entry.path, "changed": change.changed} for entry, change in zip(entries, changes)],
        diff=[
            {"before": change.before, "after": change.after, "before_header": entry.path, "after_header": entry.path}
            for entry, change in zip(entries, changes)
            if change.changed
        ],
    )


if __name__ == "__main__":
    main()
