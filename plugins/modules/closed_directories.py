#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/files/locks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: closed_directories
short_description: Close directories with lock files of root's programs to accounts
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Whoever may read a file may lock it. Some programs of root's lock files that all may read, and make them so again at
    each use, such as C(/var/cache/debconf/config.dat) and C(/run/mount/utab.lock). An account that holds such a lock
    keeps them from their work.
  - Lets root alone enter the directories of such files. A file that an account has locked, or may have opened before,
    is replaced by a copy; one on which a process of root's works stays.
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
options:
  paths:
    description: The directories, root's. One that is missing is made.
    type: list
    elements: path
    required: true
seealso:
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Let no account lock the answers of debconf
  gpustead.cluster.closed_directories:
    paths: [/var/cache/debconf]

- name: See which directories accounts can still enter
  gpustead.cluster.closed_directories:
    paths: [/var/cache/debconf, /run/mount]
  check_mode: true
  register: open

- name: Close both, and say who had locked a file there
  gpustead.cluster.closed_directories:
    paths: [/var/cache/debconf, /run/mount]
  register: closed
"""

RETURN = r"""
closed:
  description: Those that were open to others.
  type: list
  elements: str
  returned: success
held:
  description: Which accounts had locked a file in them, and with which process. They are warnings, too.
  type: list
  elements: str
  returned: success
  sample: ["process 4711 (python3) of account 'bob' had locked /var/cache/debconf/config.dat"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files.locks import close_directory


def main() -> None:
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True
    )
    paths = module.params["paths"]
    try:
        found = {path: close_directory(path, check=module.check_mode) for path in paths}
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    closed = [path for path, one in found.items() if one.was_open]
    held = [str(holder) for one in found.values() for holder in one.held]
    for line in held:
        module.warn(f"{line}: it is another file now, and keeps nobody waiting.")
    module.exit_json(changed=bool(closed or held), closed=closed, held=held)


if __name__ == "__main__":
    main()
