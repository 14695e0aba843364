#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/kernel/terminals."""

from __future__ import annotations

DOCUMENTATION = r"""
module: terminals
short_description: Tell people something in their terminals
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Writes a line into each terminal of a host that a process has for its input, those of containers included. A
    terminal that takes nothing just now is left out.
options:
  words:
    description: The line. Control characters are written as Python writes them.
    type: str
    required: true
  timeout:
    description: Seconds for all terminals.
    type: int
    default: 20
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    support: full
    description: Nobody is told.
seealso:
  - module: gpustead.cluster.node_drain
"""

EXAMPLES = r"""
- name: Say that the node starts anew
  gpustead.cluster.terminals:
    words: "{{ inventory_hostname }} starts anew in ten minutes: save what you have."

- name: Say it again, and see how many have it
  gpustead.cluster.terminals:
    words: "{{ inventory_hostname }} starts anew now."
  register: said

- name: Show it
  ansible.builtin.debug:
    msg: "{{ said.told }} terminals"
"""

RETURN = r"""
told:
  description: In how many terminals it stands.
  type: int
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.terminals import tell


def main() -> None:
    arguments = {"words": {"type": "str", "required": True}, "timeout": {"type": "int", "default": 20}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    try:
        told = 0 if module.check_mode else tell(module.params["words"], module.params["timeout"])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    # What people read is no state of the host.
    module.exit_json(changed=False, told=told)


if __name__ == "__main__":
    main()
