#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nas/nas_quotas."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_quotas
short_description: Limit what accounts have on the file system of an export
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Sets limits of space per user, soft and hard alike, by C(setquota) of package C(quota). Limits on numbers of files
    stay, and so do those of other accounts.
  - Fails where the file system has no user quotas that are enforced, and says how they are turned on. It is neither
    changed nor mounted anew.
options:
  path:
    description: The exported directory.
    type: path
    required: true
  limits:
    description: Limits in KiB, by uid. With 0 an account has none.
    type: dict
    required: true
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows the limits before and after.
seealso:
  - module: gpustead.cluster.nas_files
"""

EXAMPLES = r"""
- name: Give two accounts 500 GiB each
  gpustead.cluster.nas_quotas:
    path: /export/brick
    limits: {"1500": 524288000, "1501": 524288000}

- name: Take a limit away
  gpustead.cluster.nas_quotas:
    path: /export/brick
    limits: {"1500": 0}

- name: See which accounts have another limit
  gpustead.cluster.nas_quotas:
    path: /export/brick
    limits: {"1500": 524288000}
  check_mode: true
"""

RETURN = r"""
changes:
  description: What was set, in words.
  returned: success
  type: list
  elements: str
  sample: ["uid 1500: no limit, now 500 GiB"]
place:
  description: Where the file system is mounted.
  returned: success
  type: str
  sample: /export
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_quotas import (
    apply,
    observe,
    plan,
    without_quotas,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "limits": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    path, run = module.params["path"], within(300, environment={"LC_ALL": "C"})
    limits = {int(uid): int(limit) for uid, limit in module.params["limits"].items()}
    if not any(limits.values()) and not os.path.isdir(path):  # with their file system limits are gone
        module.exit_json(changed=False, changes=[], place="")
    try:
        seen = observe(path, run)
        if seen.state != "enforced" and any(limits.values()):
            raise without_quotas(path, seen)
        changes = plan(limits, seen)
        if not module.check_mode:
            apply(changes, seen.place, run)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, path)))
    diff = {
        "before": {str(one.uid): one.before.hard for one in changes},
        "after": {str(one.uid): one.limit for one in changes},
    }
    module.exit_json(changed=bool(changes), changes=[*map(str, changes)], place=seen.place, diff=diff)


if __name__ == "__main__":
    main()
