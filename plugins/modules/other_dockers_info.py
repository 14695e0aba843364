#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/other_dockers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: other_dockers_info
short_description: Tell which Dockers run beside that of root
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Looks for the Docker from Snap, and asks the sockets in C(/run/user) as the accounts that they belong to.
  - A socket counts where a rootless daemon answers there. It is warned of, with whose it is. A file, or a socket that
    says nothing or something else, is nobody's Docker.
  - Changes nothing.
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
    platforms: linux
"""

EXAMPLES = r"""
- name: Look for other Dockers
  gpustead.cluster.other_dockers_info:
  register: others
"""

RETURN = r"""
snap:
  description: Whether the Docker from Snap is installed.
  type: bool
  returned: always
rootless:
  description: The rootless daemons that answered.
  type: list
  elements: dict
  returned: always
  contains:
    uid:
      description: Id of the account.
      type: int
    account:
      description: Its name.
      type: str
      sample: ada
    socket:
      description: Where the daemon answers.
      type: str
      sample: /run/user/1500/docker.sock
    version:
      description: Its version, as it says.
      type: str
      sample: 28.2.2
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.other_dockers import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        others = observe()
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "the accounts' sockets in /run/user")))
    for each in others.rootless:
        module.warn(f"{each}. It is that account's alone and gives no GPUs; root's Docker goes on beside it.")
    module.exit_json(changed=False, snap=others.snap, rootless=[asdict(each) for each in others.rootless])


if __name__ == "__main__":
    main()
