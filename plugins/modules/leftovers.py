#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/files/leftovers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: leftovers
short_description: Keep the last copies of a file, and remove the older ones
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Removes all but the newest of the copies that Ansible (C(backup=true)) and this collection make of a file.
  - Removes temporary files that runs which were killed have left for that file, Ansible's own after a day and this
    collection's after a minute.
  - Nothing else beside the file is touched.
extends_documentation_fragment: [gpustead.cluster.attributes]
options:
  files:
    description: Paths of the files, not of their copies. Only root may be able to write in their directories.
    type: list
    elements: path
    required: true
  keep:
    description: How many copies of each stay.
    type: int
    default: 5
seealso:
  - module: ansible.builtin.find
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Keep the last copies of fstab
  gpustead.cluster.leftovers:
    files: [/etc/fstab]

- name: Keep the last copy alone
  gpustead.cluster.leftovers:
    files: [/etc/docker/daemon.json]
    keep: 1

- name: See what would go
  gpustead.cluster.leftovers:
    files: [/etc/fstab, /etc/docker/daemon.json]
  check_mode: true
  register: old
"""

RETURN = r"""
removed:
  description: Paths that are gone.
  type: list
  elements: str
  returned: always
  sample: ["/etc/fstab.2358.2026-11-28@23:45:18~"]
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files.leftovers import KEEP, find, remove


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "path", "required": True},
            "keep": {"type": "int", "default": KEEP},
        },
        supports_check_mode=True,
    )
    try:
        gone = list(find(module.params["files"], module.params["keep"], time.time()))
        if not module.check_mode:
            remove(gone)
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "old copies")))
    before = "".join(f"{path}\n" for path in gone)
    module.exit_json(changed=bool(gone), removed=[str(path) for path in gone], diff={"before": before, "after": ""})


if __name__ == "__main__":
    main()
