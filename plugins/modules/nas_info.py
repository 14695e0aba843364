#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is mounted on a host, and what its systemd is and knows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_info
short_description: What is mounted on a host, and whether it is what should be
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Lists what is mounted, and says which systemd there is and whether it has read Docker's unit as it is now.
  - Fails where something else is mounted on one of O(mounts); not in a check, which has mounted nothing.
options:
  mounts:
    description: What should be mounted, as filter P(gpustead.cluster.nas_plan#filter) has it.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The mountpoint.
        type: str
        required: true
      source:
        description: What is mounted there.
        type: str
        required: true
      fstype:
        description: Its kind.
        type: str
        required: true
      options:
        description: Its options, which may differ.
        type: str
        default: ""
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: See whether the share is mounted
  gpustead.cluster.nas_info:
    mounts:
      - {path: /mnt/nas, source: "10.0.0.5:/nas", fstype: nfs4}
"""

RETURN = r"""
filesystems:
  description: What is mounted, the topmost of a mountpoint last.
  returned: success
  type: list
  elements: dict
  sample: [{"target": "/mnt/nas", "source": "10.0.0.5:/nas", "fstype": "nfs4", "options": "rw,nosuid"}]
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
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_plan import Mount, mismatched
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

MOUNT = {
    "path": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "fstype": {"type": "str", "required": True},
    "options": {"type": "str", "default": ""},
}
ARGUMENTS = {"mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = look(within(60, environment={"LC_ALL": "C"}))
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    wrong = mismatched([Mount(**given) for given in module.params["mounts"]], found.filesystems)
    if wrong and not module.check_mode:
        module.fail_json(msg="\n- ".join(["Something else is mounted than declared:", *wrong]))
    module.exit_json(changed=False, **asdict(found))


if __name__ == "__main__":
    main()
