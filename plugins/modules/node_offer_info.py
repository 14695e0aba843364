#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look what a node has for containers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_offer_info
short_description: What a node has for containers
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Reads the files that roles images and nvidia leave on a node for whoever starts containers there, and looks whether
    anything is in the way of these.
options:
  image_file:
    description: File with the image that role images pulled.
    type: path
    default: /etc/gpustead/image
  gpus_file:
    description: File with the GPUs that role nvidia found for containers.
    type: path
    default: /etc/gpustead/gpus.json
  projects:
    description: Compose projects, of whose containers is asked whether Docker answers for them.
    type: list
    elements: str
    default: []
  peer:
    description: Address or name of another node, to which the route is asked for. Empty where there is none.
    type: str
    default: ""
  networks:
    description:
      - Networks of the cluster. Of the addresses that this node has for the name O(peer) those in there count. Without
        one, it is the interface of this node that has an address in there. Where there are several, or none, that is an
        error.
    type: list
    elements: str
    default: []
  ports:
    description: Ports (TCP) on which the containers are to listen. A port 0 is none.
    type: list
    elements: int
    default: []
  packages:
    description: Names of packages that whoever works with the containers needs.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.port_holders
  - module: gpustead.cluster.node_images_info
"""

EXAMPLES = r"""
- name: Look what the node has for containers
  gpustead.cluster.node_offer_info:
  register: offer

- name: Show its GPUs
  ansible.builtin.debug:
    msg: "{{ offer.gpus.uuids }}"
  when: offer.gpus

- name: Look for the interface towards another node, and who has the port of the mesh
  gpustead.cluster.node_offer_info:
    peer: 10.1.0.12
    networks: [10.1.0.0/24]
    ports: [2222]
"""

RETURN = r"""
image:
  description: The image; empty where there is no such file.
  returned: success
  type: str
gpus:
  description: As P(gpustead.cluster.gpu_offer#filter) gives them; null where there is no such file.
  returned: success
  type: dict
infiniband:
  description: Whether C(/dev/infiniband) is there.
  returned: success
  type: bool
machine_id:
  description: The id of the machine; empty where it has none.
  returned: success
  type: str
blocked:
  description:
    - Those of O(projects) with a container for which Docker does not answer. Every command of Docker's for it would
      wait for ever. There is none where Docker does not run.
    - So are those with the labels of which another container was started, by an image that brings them. Compose would
      take it for its own, and remove one or the other.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The project., type: str}
    what: {description: "The container, and what is wrong.", type: str}
    expected: {description: What should be., type: str}
    remedy: {description: What to do., type: str}
route:
  description: What C(ip -j route get) prints for O(peer), at least C(dev); empty without O(peer) and O(networks).
  returned: success
  type: str
held:
  description:
    - Processes of accounts that listen on one of O(ports), on any address, or keep others from listening there by a
      socket that is bound to it.
    - What listens as root is not among them. It is Docker's for a container that runs, or an administrator's.
  returned: success
  type: list
  elements: dict
  contains:
    port: {description: The port., type: int}
    account: {description: Name of the account., type: str}
    pid: {description: The process; 0 where it has ended meanwhile., type: int}
    command: {description: Its name., type: str}
missing:
  description: Those of O(packages) that are not installed, or only because others need them.
  returned: success
  type: list
  elements: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.blocked_projects import in_the_way

ARGUMENTS = {
    "image_file": {"type": "path", "default": "/etc/gpustead/image"},
    "gpus_file": {"type": "path", "default": "/etc/gpustead/gpus.json"},
    "projects": {"type": "list", "elements": "str", "default": []},
    "peer": {"type": "str", "default": ""},
    "networks": {"type": "list", "elements": "str", "default": []},
    "ports": {"type": "list", "elements": "int", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked, ports = dict(module.params), [port for port in module.params["ports"] if port]
    projects = asked.pop("projects")
    try:
        found = observe(**{**asked, "ports": ports}, run=within(30))
        refused = in_the_way(projects, Host())
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **asdict(found), blocked=[asdict(one) for one in refused])


if __name__ == "__main__":
    main()
