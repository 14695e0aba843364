# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/workspaces: what is declared to the workspaces of a node."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Defaults, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: workspaces
short_description: The workspaces of a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives each workspace that is declared for a node its compose project, its directory, its ports and its accounts.
  - Ports that are not declared follow from the user id alone, so that no workspace moves another one.
  - What cannot be meant is an error, also one port for two services.
options:
  _input:
    description: V(workspace_instances) of role workspace. Empty means one, that of O(owner).
    type: list
    elements: dict
    required: true
  users:
    description: The accounts of the cluster.
    type: list
    elements: dict
    required: true
  owner:
    description: The account whose workspace has O(ports).
    type: str
    required: true
  ports:
    description: The ports of its services; one that is not named has its usual port.
    type: dict
    required: true
  port_range:
    description: Where the ports of others are taken from, as C(first:last).
    type: str
    required: true
  profile:
    description: The profile of those that declare none.
    type: str
    default: server
  directory:
    description: Directory on the node for the compose files.
    type: str
    default: /etc/gpustead/workspace
  sudo:
    description: Whether owners have sudo in their containers, where their entry does not say.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the ports of each workspace
  ansible.builtin.debug:
    msg: "{{ [{'owner': 'ada'}, {'owner': 'bob'}] | gpustead.cluster.workspaces(users=cluster_users, owner='ada',
      ports={'jupyter': 18888, 'tensorboard': 16006, 'gradio': 17860, 'ssh': 10022}, port_range='19000:19999') }}"
"""

RETURN = r"""
_value:
  description:
    - The workspaces, each with C(owner), C(accounts) (C(name), C(uid), C(gid), C(ssh_keys); the owner first),
      C(project), C(directory), C(profile), C(ports), C(gpus), C(cpus), C(memory), C(limits), C(volumes),
      C(published) and C(sudo).
    - C(slice) is the systemd slice of all its containers, where it has limits.
    - What is root's of each on the node is in C(directories), C(files) and C(host_key); C(compose_files) are the names
      of the compose files of its profile, C(own_image) is what its owner's own builds are called.
    - C(project) and C(own_image) have the owner's name where Docker takes it; else one like it, with a digest of it.
  type: list
  elements: dict
"""


@filter_errors("workspace_instances")
def workspaces(declared: Any, **settings: Any) -> list[dict[str, Any]]:
    return [workspace.described() for workspace in plan(declared, Defaults(**settings))]


FilterModule = filter_module(workspaces=workspaces)
