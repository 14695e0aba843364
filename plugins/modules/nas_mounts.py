#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mount the shares of a host, or take them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nas_mounts
short_description: Mount the shares of a host, or take them back
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Writes the lines of the shares in C(/etc/fstab) and mounts them as these say. One that is mounted to be read alone
    and is not declared so is mounted to be written, and one without C(nosuid,nodev) gets these.
  - Accounts mount, too (FUSE), and choose names that are no text; they are no obstacle here.
  - Where a share cannot be mounted C(/etc/fstab) stays as it was.
options:
  mounts:
    description: What should be mounted, for O(state=present).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The mountpoint, which is there.
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
        description: Its options.
        type: str
        required: true
  paths:
    description: Mountpoints of which nothing is left, for O(state=absent). Their directories stay.
    type: list
    elements: path
    default: []
  state:
    description: V(present) mounts O(mounts), V(absent) takes O(paths) back. What is in use then is an error.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds after which a command that does not end is killed.
    type: int
    default: 90
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows the lines of C(/etc/fstab), and what would be mounted.
seealso:
  - module: ansible.posix.mount
  - module: gpustead.cluster.nas_mountpoint
  - module: gpustead.cluster.binds
"""

EXAMPLES = r"""
- name: Mount the share
  gpustead.cluster.nas_mounts:
    mounts:
      - {path: /mnt/nas, source: "nas.example.org:/export", fstype: nfs4, options: "hard,nosuid,nodev"}

- name: Mount a volume of GlusterFS and a data set, and wait for two minutes
  gpustead.cluster.nas_mounts:
    mounts:
      - {path: /mnt/nas, source: "10.1.0.5:/nas", fstype: glusterfs, options: "nosuid,nodev"}
      - {path: /dataset, source: "nas.example.org:/dataset", fstype: nfs4, options: "ro,nosuid,nodev"}
    timeout: 120

- name: Take one back
  gpustead.cluster.nas_mounts:
    paths: [/dataset]
    state: absent
"""

RETURN = r"""
done:
  description: What was mounted or unmounted, in words.
  returned: success
  type: list
  elements: str
  sample: ["/mnt/nas: mounted"]
backup_file:
  description: The copy of C(/etc/fstab) before it was changed.
  returned: it was changed
  type: str
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import nas_mounts as shares
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

FSTAB = "/etc/fstab"
MOUNT = {name: {"type": "str", "required": True} for name in ("path", "source", "fstype", "options")}
ARGUMENTS = {
    "mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT},
    "paths": {"type": "list", "elements": "path", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "timeout": {"type": "int", "default": 90},
}


def read() -> str:
    if not os.path.exists(FSTAB):
        return ""
    with open(FSTAB, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def write(module: AnsibleModule, text: str) -> None:
    with tempfile.NamedTemporaryFile(dir=module.tmpdir, delete=False) as file:
        file.write(text.encode(errors="surrogateescape"))
        os.fchmod(file.fileno(), 0o644)
    module.atomic_move(file.name, os.path.realpath(FSTAB))


@contextmanager
def lines(module: AnsibleModule, before: str, after: str) -> Iterator[None]:
    """With these lines in fstab; with those before, where what is done with them fails."""
    changes = before != after and not module.check_mode
    if changes:
        write(module, after)
    try:
        yield
    except BaseException:
        if changes:
            write(module, before)
        raise


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params, check = module.params, module.check_mode
    run = within(params["timeout"], environment={"LC_ALL": "C"})
    result = {}
    try:
        before = read()
        if params["state"] == "absent":
            after = shares.without_lines(before, params["paths"])
        else:
            mounts = [shares.DeclaredMount(**given) for given in params["mounts"]]
            after = shares.with_lines(before, mounts)
        if before != after and before and not check:
            result["backup_file"] = module.backup_local(FSTAB)
        if params["state"] == "absent":
            done = shares.retire(params["paths"], run, check)
            with lines(module, before, after):
                pass
        else:
            new = [one.path for one in mounts if shares.with_lines(before, [one]) != before]
            with lines(module, before, after):
                done = shares.mount_all(mounts, new, run, check)
    except GpusteadError as error:
        module.fail_json(msg=shown(error, 2000))
    except OSError as error:
        module.fail_json(msg=shown(of_system(error, FSTAB), 2000))
    texts = [shares.difference(one, other) for one, other in ((before, after), (after, before))]
    said = "".join(f"{line}\n" for line in done)
    module.exit_json(
        changed=bool(done) or before != after,
        done=done,
        diff={"before": texts[0], "after": texts[1] + said, "before_header": FSTAB, "after_header": FSTAB},
        **result,
    )


if __name__ == "__main__":
    main()
