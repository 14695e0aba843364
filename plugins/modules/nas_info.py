#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What systemd there is on a host, and whether it knows Docker's unit as it is now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_info
short_description: Which systemd there is on a host, and whether it knows Docker's unit as it is now
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - What role nas has to know to order Docker after the mounts.
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.nas_mounts
"""

EXAMPLES = r"""
- name: Ask which systemd there is
  gpustead.cluster.nas_info:

- name: Look at systemd
  gpustead.cluster.nas_info:
  register: nas

- name: Have systemd read its units where it does not know Docker's as it is now
  ansible.builtin.systemd_service:
    daemon_reload: true
  when: nas.needs_reload
"""

RETURN = r"""
systemd:
  description: The version of systemd.
  returned: success
  type: int
  sample: 257
needs_reload:
  description: Whether systemd has not read the unit of Docker as it is now.
  returned: success
  type: bool
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_info import look
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = look(within(60, environment={"LC_ALL": "C"}))
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **asdict(found))


if __name__ == "__main__":
    main()
