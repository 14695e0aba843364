#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role base goes by on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: base_info
short_description: Release, package lists and packages of a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Looks at a host before packages are installed, so that apt runs only where it has something to do.
  - Fails on a release that the collection does not know.
options:
  packages:
    description: Packages to look for, as M(ansible.builtin.apt) takes them.
    type: list
    elements: str
    default: []
  lists_valid_time:
    description: Seconds after which package lists are old.
    type: int
    default: 86400
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.trust_store
  - module: ansible.builtin.package_facts
"""

EXAMPLES = r"""
- name: Look at the packages
  gpustead.cluster.base_info:
    packages: [acl]
  register: found

- name: Install the missing packages
  ansible.builtin.apt:
    name: "{{ found.missing }}"
  when: found.missing | length > 0

- name: Have package lists that are at most an hour old
  gpustead.cluster.base_info:
    lists_valid_time: 3600
"""

RETURN = r"""
release:
  description: C(ID) and C(VERSION_ID) of C(/etc/os-release).
  returned: success
  type: str
  sample: debian 12
lists_old:
  description: Whether the package lists are older than O(lists_valid_time), or not there.
  returned: success
  type: bool
missing:
  description: The packages that are not installed, or only because another needs them.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.base.base_info import look
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host

ARGUMENTS = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "lists_valid_time": {"type": "int", "default": 86400},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = look(module.params["packages"], Host())
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "the state of apt")))
    is_old = found.lists_age is None or found.lists_age > module.params["lists_valid_time"]
    module.exit_json(changed=False, release=found.release, lists_old=is_old, missing=found.missing)


if __name__ == "__main__":
    main()
