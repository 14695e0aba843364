#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write an image to the share as a squashfs for enroot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_squash
short_description: Write an image to the share as a squashfs for enroot
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Makes a squashfs of the root file system of an image, with C(/etc/rc), C(/etc/environment) and C(/etc/fstab) as
    C(enroot import) writes them. The entrypoint of role images, which takes root to make accounts, is left out.
  - The file is named by the image's digest. C(<name>.sqsh) beside it is a link to it, which changes in one go; the file
    that it led to before stays until the next one is written, and those of O(keep) stay.
  - The image must be on this host. The share is written with the ids of the directory's owner alone.
requirements: [docker, sqfstar (Debian package squashfs-tools)]
options:
  image:
    description: The image, by its digest, or by its id where no registry has it.
    type: str
    required: true
  name:
    description: Name of the file, without its end.
    type: str
    required: true
  keep:
    description: Images by their digests whose files stay.
    type: list
    elements: str
    default: []
  root:
    description: Where the share is mounted.
    type: path
    required: true
  directory:
    description: Directory of the files, below O(root). It must be there.
    type: str
    default: images
  uid:
    description: Its owner.
    type: int
    required: true
  gid:
    description: The owner's group.
    type: int
    required: true
  work:
    description: Directory of root's on this host, in which the file is made before it is copied.
    type: path
    required: true
  timeout:
    description: Seconds for each command, and for the copy.
    type: int
    default: 7200
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells whether the file would be made, without making it.
  diff_mode:
    description: Shows where the link leads.
seealso:
  - module: gpustead.cluster.image_stack
"""

EXAMPLES = r"""
- name: Write the image in use to the share
  gpustead.cluster.image_squash:
    image: 10.1.0.5:5000/gpustead/cuda1281-ubuntu2404_base_ssh@sha256:1f…
    name: gpustead
    root: /mnt/nas
    uid: 941
    gid: 941
    work: /var/lib/gpustead/images

- name: Keep the file of an earlier image, too
  gpustead.cluster.image_squash:
    image: "{{ in_use }}"
    name: gpustead
    keep: ["{{ earlier }}"]
    root: /mnt/nas
    uid: 941
    gid: 941
    work: /var/lib/gpustead/images

- name: Write another image to a place of its own
  gpustead.cluster.image_squash:
    image: nvcr.io/nvidia/pytorch@sha256:1f…
    name: ngc
    root: /mnt/nas
    directory: images/ngc
    uid: 941
    gid: 941
    work: /var/lib/gpustead/images
  register: written
"""

RETURN = r"""
path:
  description: The link to the file.
  returned: success
  type: str
  sample: /mnt/nas/images/gpustead.sqsh
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_squash as library
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "keep": {"type": "list", "elements": "str", "default": []},
    "root": {"type": "path", "required": True},
    "directory": {"type": "str", "default": "images"},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int", "required": True},
    "work": {"type": "path", "required": True},
    "timeout": {"type": "int", "default": 7200},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    who = Identity(asked["uid"], asked["gid"])
    desired = library.Desired(
        asked["root"], asked["directory"], asked["name"], asked["image"], tuple(asked["keep"]), who
    )
    try:
        found = library.observe(desired)
        order = library.plan(desired, found)
        if not (order.empty or module.check_mode):
            with library.workplace(asked["work"]) as work:
                path = f"{work}/image.sqsh" if order.make else ""
                if order.make:
                    library.squash(within(asked["timeout"]), desired.image, path, asked["timeout"])
                library.publish(desired, order, path, asked["timeout"])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, desired.place)))
    module.exit_json(
        changed=not order.empty,
        path=f"{desired.place}/{desired.link}",
        diff={"before": f"{shown(found.target)}\n", "after": f"{desired.file}\n"},
    )


if __name__ == "__main__":
    main()
