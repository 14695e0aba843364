# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/nodes/removal_plan: what somebody asks for who removes a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.removal_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: removal_plan
short_description: What somebody asks for who removes a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Holds it against the inventory. A node that others need is refused.
positional: groups, builder
options:
  _input:
    description: Name of the node; empty, where none was given.
    type: str
    required: true
  groups:
    description: The variable C(groups).
    type: dict
    required: true
  builder:
    description: The node that builds the images.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which nodes stay
  ansible.builtin.debug:
    msg: "{{ ('gpu02' | gpustead.cluster.removal_plan(groups, 'gpu01')).stay }}"
"""

RETURN = r"""
_value:
  description: C(node), and C(stay), the nodes that stay.
  type: dict
"""


@filter_errors()
def removal_plan(node: str, groups: Mapping[str, Sequence[str]], builder: str) -> dict[str, Any]:
    return asdict(plan(str(node), groups, str(builder)))


FilterModule = filter_module(removal_plan=removal_plan)
