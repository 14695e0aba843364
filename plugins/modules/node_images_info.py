#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/docker/node_images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_images_info
short_description: Which images a node has, and how much space there is for others
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Asks Docker which of some images are there, and looks at the free space where it keeps them.
options:
  images:
    description: Names of the images.
    type: list
    elements: str
    required: true
  directory:
    description:
      - Where Docker keeps images. Without it that is asked of Docker, whose data can be anywhere (C(data-root)), and in
        containerd's store the images are containerd's.
    type: path
  pulled_file:
    description: File with a name on each line of the images that role images has pulled beside the stack.
    type: path
    default: /etc/gpustead/images_pulled
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.node_offer_info
  - module: community.docker.docker_host_info
"""

EXAMPLES = r"""
- name: Look whether the image is there
  gpustead.cluster.node_images_info:
    images: ["10.1.0.5:5000/gpustead/workspace@sha256:0123"]
  register: found

- name: Stop where an image would not fit
  ansible.builtin.assert:
    that: found.missing | length == 0 or found.free_gb > 40
    fail_msg: "{{ found.free_gb }} GB are free for {{ found.missing | join(', ') }}"

- name: Look at a Docker that keeps its images elsewhere
  gpustead.cluster.node_images_info:
    images: ["nvcr.io/nvidia/pytorch:25.10-py3"]
    directory: /data/containerd
"""

RETURN = r"""
missing:
  description: Those of O(images) that are not there; all where there is no Docker.
  returned: success
  type: list
  elements: str
directory:
  description: Where Docker keeps images.
  returned: success
  type: str
  sample: /var/lib/docker
free_gb:
  description: Free space in RV(directory) in GiB, rounded up; null where there is no such directory yet.
  returned: success
  type: int
pulled:
  description: The lines of O(pulled_file).
  returned: success
  type: list
  elements: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_images import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "images": {"type": "list", "elements": "str", "required": True},
    "directory": {"type": "path"},
    "pulled_file": {"type": "path", "default": "/etc/gpustead/images_pulled"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = observe(**module.params, run=within(120))
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **asdict(found))


if __name__ == "__main__":
    main()
