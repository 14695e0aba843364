#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/gpus/gpu_users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_users_info
short_description: Who uses the GPUs of a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Looks which processes have a device of a GPU open, within a time. Those of containers are among them; the driver's
    own daemon is not.
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.mig_layout
"""

EXAMPLES = r"""
- name: Look who uses the GPUs
  gpustead.cluster.gpu_users_info:
  register: users

- name: Stop where somebody uses a GPU
  ansible.builtin.assert:
    that: users.users | length == 0
    fail_msg: "{{ users.words | join('; ') }}"

- name: Wait until nobody uses a GPU
  gpustead.cluster.gpu_users_info:
  register: users
  until: users.users | length == 0
  retries: 60
  delay: 60
"""

RETURN = r"""
users:
  description: The first 20 processes.
  returned: success
  type: list
  elements: dict
  contains:
    pid: {description: The process., type: int}
    account: {description: Name of the account that it runs as., type: str}
    command: {description: Its name., type: str}
words:
  description: The same, each in a line.
  returned: success
  type: list
  elements: str
  sample: ["4711 ada python"]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import users


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = users()
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "who uses the GPUs")))
    module.exit_json(changed=False, users=[asdict(one) for one in found], words=[str(one) for one in found])


if __name__ == "__main__":
    main()
