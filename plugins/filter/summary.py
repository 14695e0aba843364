# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/site/summary: the nodes of a cluster to what it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site import summary as page
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: summary
short_description: What the cluster offers, from the inventory alone
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Says of each workspace where its services are reached, and how one logs in. No host is asked.
positional: hostvars, example
options:
  _input:
    description: Names of the GPU nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  example:
    description: The node whose settings stand for those of all.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show where the services of a node are
  ansible.builtin.debug:
    msg: "{{ (['gpu01'] | gpustead.cluster.summary(hostvars, 'gpu01')).workspaces[0].services }}"
"""

RETURN = r"""
_value:
  description: What the page says.
  type: dict
  contains:
    nodes:
      description: Number of the nodes.
      type: int
    workspaces:
      description: The workspaces of all nodes, each with C(title) and C(services), a line for each service.
      type: list
      elements: dict
    owner:
      description: The cluster's owner.
      type: str
    secret:
      description: What the owner's JupyterLab asks for; V(file) is a token that was made once.
      type: str
      choices: [password, token, file]
    of_others:
      description: Whether others have workspaces, too.
      type: bool
    log_in:
      description: Command that logs in to a node.
      type: str
    nas_path:
      description: Where the share is mounted.
      type: str
"""


@filter_errors("workspace_instances")
def summary(nodes: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], example: str) -> dict[str, Any]:
    return asdict(page.summary({node: hostvars[node] for node in nodes}, example))


FilterModule = filter_module(summary=summary)
