# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/site/client_plan: nodes to what a user's machine knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.client_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: client_plan
short_description: What a user's machine knows of the nodes
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the hosts by which ssh reaches the nodes and the workspaces of a user, and their host keys.
positional: hostvars, user
options:
  _input:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars), with what C(playbooks/client.yml) registered.
    type: dict
    required: true
  user:
    description: Name of the account.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the ports of SSH
  ansible.builtin.debug:
    msg: "{{ (['gpu01'] | gpustead.cluster.client_plan(hostvars, 'ada')).hosts }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    hosts:
      description: Hosts of ssh_config, each with C(name), C(address) and C(port).
      type: list
      elements: dict
    host_keys:
      description: Lines of known_hosts, each with C(name) and C(key).
      type: list
      elements: dict
    projects:
      description: Compose projects of the user's workspaces.
      type: list
      elements: str
"""


@filter_errors("workspace_instances")
def client_plan(nodes: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], user: str) -> dict[str, Any]:
    return asdict(plan({node: hostvars[node] for node in nodes}, user))


FilterModule = filter_module(client_plan=client_plan)
