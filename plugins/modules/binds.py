#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mount the places that containers see below a directory of root's."""

from __future__ import annotations

DOCUMENTATION = r"""
module: binds
short_description: Mount the places that containers see below a directory of root's
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Docker follows symbolic links in what it binds, and whoever owns a directory can put one there. So each place is
    opened step by step without a link, its owner is checked, and what was opened is mounted, without setuid programs
    and devices, as C(/run/gpustead/binds/<set>/<name>), which containers bind.
  - A set is declared in C(/etc/gpustead/binds.d) for the next boot, too, when the unit C(gpustead-binds) does the
    same.
  - A place that is refused is named and stops no other. It is not mounted, and nothing lies there that Docker could
    bind instead. One that was mounted before stays while it is still its owner's.
options:
  set:
    description: The name of the set. Required but for O(state=released).
    type: str
  binds:
    description: Its places, all of them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name below the directory of the set.
        type: str
        required: true
      root:
        description: A directory whose path only root can change, such as the mount point of a share, or C(/).
        type: path
        required: true
      path:
        description: The place below it. No step may be a symbolic link.
        type: str
        required: true
      owner:
        description: User id that it must belong to. Any, where it is left out.
        type: int
      only_account:
        description: Of the accounts that the host has, the only one that it may belong to, by its user id.
        type: int
      mounted:
        description: Whether something must be mounted on O(binds[].root).
        type: bool
        default: false
      read_only:
        description: Whether containers only read it.
        type: bool
        default: false
      cover:
        description: Whether the place itself loses setuid programs and devices, too, where its file system has them.
        type: bool
        default: false
      own:
        description:
          - Whether the place is a mount of its own, with O(binds[].cover), also where its file system has no setuid
            programs and devices. So what asks whether something is mounted there finds it.
        type: bool
        default: false
      linked:
        description: Whether files there have second names (hard links) that are meant; else these are refused.
        type: bool
        default: false
      never:
        description: Paths that it must neither be nor be in.
        type: list
        elements: str
        default: []
      propagation:
        description: How mounts that come later at the place are seen, as Docker names it.
        type: str
        choices: [private, rprivate, slave, rslave, shared, rshared]
        default: slave
  required:
    description: Whether a place that is refused, and so is not mounted, is a failure.
    type: bool
    default: true
  state:
    description:
      - V(present) has exactly O(binds) mounted for O(set).
      - V(released) lets go of all places on the file systems that are mounted on O(paths), before these are unmounted.
    type: str
    choices: [present, released]
    default: present
  paths:
    description: Mount points, for O(state=released).
    type: list
    elements: path
    default: []
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows each place with what is mounted.
seealso:
  - module: gpustead.cluster.nas_mounts
  - module: gpustead.cluster.local_place
"""

EXAMPLES = r"""
- name: Mount a home for the containers
  gpustead.cluster.binds:
    set: workspace
    binds:
      - {name: home-ada, root: /mnt/nas, path: users/ada, owner: 1500, mounted: true}

- name: Mount a data set that containers only read, and leave out what cannot be
  gpustead.cluster.binds:
    set: datasets
    binds:
      - {name: imagenet, root: /, path: data/imagenet, read_only: true}
    required: false
  register: mounted

- name: Let go of all places on the share before it is unmounted
  gpustead.cluster.binds:
    state: released
    paths: [/mnt/nas]
"""

RETURN = r"""
refused:
  description: What is not as it must be.
  returned: state is present
  type: list
  elements: dict
  sample: [{"name": "home-ada", "what": "/mnt/nas/users/ada is a symbolic link", "expected": "a directory",
            "remedy": "Move it out of the way, and put back what was there."}]
missing:
  description: Names of the refused ones that are not mounted.
  returned: state is present
  type: list
  elements: str
replaced:
  description: Names of those that show another place than before. Running containers still see the other one.
  returned: state is present
  type: list
  elements: str
released:
  description: Where the places were mounted that were let go.
  returned: state is released
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import apply_binds
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import parse
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import write
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

BIND = {
    "name": {"type": "str", "required": True},
    "root": {"type": "path", "required": True},
    "path": {"type": "str", "required": True},
    "owner": {"type": "int"},
    "only_account": {"type": "int"},
    "mounted": {"type": "bool", "default": False},
    "read_only": {"type": "bool", "default": False},
    "cover": {"type": "bool", "default": False},
    "own": {"type": "bool", "default": False},
    "linked": {"type": "bool", "default": False},
    "never": {"type": "list", "elements": "str", "default": []},
    "propagation": {
        "type": "str",
        "choices": ["private", "rprivate", "slave", "rslave", "shared", "rshared"],
        "default": "slave",
    },
}
ARGUMENTS = {
    "set": {"type": "str"},
    "binds": {"type": "list", "elements": "dict", "default": [], "options": BIND},
    "required": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "released"], "default": "present"},
    "paths": {"type": "list", "elements": "path", "default": []},
}


def main() -> None:
    required = [("state", "present", ["set"]), ("state", "released", ["paths"])]
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=required, supports_check_mode=True)
    name, check = module.params["set"], module.check_mode
    try:
        if module.params["state"] == "released":
            gone = [shown(path) for path in apply_binds.release(paths=module.params["paths"], check=check)]
            module.exit_json(changed=bool(gone), released=gone, diff={"before": "\n".join(gone), "after": ""})
        places = [parse(raw) for raw in module.params["binds"]]
        declared = write(name, places, check)
        done = apply_binds.apply(name, places, check)
    except (GpusteadError, OSError) as error:
        module.fail_json(msg=shown(error))
    refused = [{key: shown(value) for key, value in one.items()} for one in done.refused]
    # A check has mounted nothing, and may be of a fresh host.
    missing = [one["name"] for one in refused if one["name"] not in done.mounted and not check]
    before, after = (
        "".join(f"{name}/{change[0]}: {shown(change[side])}\n" for change in done.changes if change[side])
        for side in (1, 2)
    )
    result = {"refused": refused, "missing": missing, "replaced": done.replaced}
    result |= {"changed": declared or bool(done.changes), "diff": {"before": before, "after": after}}
    for path in map(shown, done.kept):
        module.warn(
            f"{path} stays without setuid programs and devices: containers have written there. Look for what they left"
            f" (find {path} -perm /6000; getcap -r {path}), then run gpustead-binds uncover {path}."
        )
    if missing and module.params["required"]:
        module.fail_json(
            msg="; ".join(f"{one['what']}: expected {one['expected']}. {one['remedy']}" for one in refused), **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
