#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name, which runs modules on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_project
short_description: Run a compose project, and prove that its containers have their GPUs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Has M(community.docker.docker_compose_v2) start the services and wait until they are healthy, without pulling
    images.
  - Then M(gpustead.cluster.gpu_proof) asks in each container which GPUs it sees. Containers that lack some are created
    anew, once, and asked again. What is not as expected then is a failure.
options:
  project:
    description: Name of the compose project.
    type: str
    required: true
  directory:
    description: Where its compose files are.
    type: path
    required: true
  files:
    description: Their names.
    type: list
    elements: str
    default: [compose.yml]
  profiles:
    description: Profiles that are started.
    type: list
    elements: str
    default: []
  recreate:
    description: Services whose containers are created anew first, whatever Compose thinks of them.
    type: list
    elements: str
    default: []
  services:
    description: The services that have GPUs.
    type: list
    elements: str
    required: true
  uuids:
    description:
      - UUIDs of the GPUs, and of the MIG instances, that each of these must see. Without any, nothing is asked.
    type: list
    elements: str
    default: []
  user:
    description: Account in the containers that asks, as those who use them do. Empty means that of the image.
    type: str
    default: ""
  ports:
    description:
      - Ports on which the containers listen on the host, by what listens there. Where the services do not come up, the
        accounts that have one of them are named, as M(gpustead.cluster.port_holders) does.
    type: dict
    default: {}
  timeout:
    description: Seconds until the services must be healthy.
    type: int
    default: 120
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    description: Tells what Compose would do; containers are not asked.
seealso:
  - module: community.docker.docker_compose_v2
  - module: gpustead.cluster.gpu_proof
  - module: gpustead.cluster.port_holders
"""

EXAMPLES = r"""
- name: Run the mesh
  gpustead.cluster.compose_project:
    project: gpustead-mesh
    directory: /etc/gpustead/ssh_mesh
    services: [mesh]
    uuids: [GPU-8f6fe2a1-6b6a-3a5c-0f3f-4f1f3d2b9a10]
    user: ada

- name: Run a workspace without GPUs, and wait for five minutes
  gpustead.cluster.compose_project:
    project: gpustead-workspace
    directory: /etc/gpustead/workspace
    profiles: [server]
    services: [jupyter, tensorboard, gradio, ssh]
    timeout: 300

- name: Create the container of one service anew, and name who has its port if it does not come up
  gpustead.cluster.compose_project:
    project: gpustead-workspace
    directory: /etc/gpustead/workspace
    profiles: [server]
    services: [jupyter]
    recreate: [jupyter]
    ports: {JupyterLab: 18888}
"""

RETURN = r"""
actions:
  description: What Compose did, as M(community.docker.docker_compose_v2) returns it.
  returned: always
  type: list
  elements: dict
"""
