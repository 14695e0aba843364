#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Close the bare directories beneath mounts to writing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_mountpoint
short_description: Make mountpoints refuse writes while nothing is mounted on them
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Makes the bare directory of each mountpoint immutable (C(chattr +i)), so that nothing, root and Docker
    included, writes to the local disk when the share is not mounted. Creates it where it is missing.
  - Looks beneath what is mounted now, in a mount namespace of its own, without touching the mounted file system.
  - Where the file system has no immutable flag, the directory gets mode 0000 and a warning says so; root can
    still write there.
options:
  paths:
    description: The mountpoints, absolute.
    type: list
    elements: str
    required: true
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows mode and flag before and after.
seealso:
  - module: gpustead.cluster.nas_mounts
"""

EXAMPLES = r"""
- name: Protect the mountpoint
  gpustead.cluster.nas_mountpoint:
    paths: [/mnt/nas]

- name: Protect all mountpoints of a host before anything is mounted
  gpustead.cluster.nas_mountpoint:
    paths: [/mnt/nas, /dataset]
  register: protected

- name: See which ones are not protected
  gpustead.cluster.nas_mountpoint:
    paths: [/mnt/nas, /dataset]
  check_mode: true
"""

RETURN = r"""
mountpoints:
  description: Each path with what is beneath it; C(mode) is octal, and empty where there was no directory.
  returned: success
  type: dict
  sample: {"/mnt/nas": {"mode": "755", "immutable": true, "entries": 0}}
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mountpoint import Bare, Mountpoint


def main() -> None:
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )

    def run(argv: Any) -> tuple[int, str, str]:
        result: tuple[int, str, str] = module.run_command(list(argv), environ_update={"LC_ALL": "C"})
        return result

    before: dict[str, Bare] = {}
    after: dict[str, Bare] = {}
    try:
        points = [Mountpoint(path, run) for path in module.params["paths"]]
        for point in points:
            bare = before[point.path] = after[point.path] = point.observe()
            if not bare.protected:
                planned = Bare(bare.mode or "755", True, bare.entries)
                after[point.path] = planned if module.check_mode else point.protect(bare)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    for path, bare in after.items():
        if not bare.immutable:
            module.warn(f"{path}: no immutable flag on this file system; unmounted, it stops all but root (mode 0000)")
        if bare.entries:
            module.warn(f"{path}: {bare.entries} entries lie in the bare directory, hidden while the share is mounted")
    shown = [{path: asdict(bare) for path, bare in side.items()} for side in (before, after)]
    module.exit_json(changed=before != after, mountpoints=shown[1], diff={"before": shown[0], "after": shown[1]})


if __name__ == "__main__":
    main()
