# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/nodes/drain_plan: what somebody asks for who drains a node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.drain_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: drain_plan
short_description: What somebody asks for who drains a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Holds it against the inventory, and gives what is to be done and what people are told.
positional: nodes, reason, deadline, stop
options:
  _input:
    description: Name of the node; empty, where none was given.
    type: str
    required: true
  nodes:
    description: Names of the nodes in the inventory.
    type: list
    elements: str
    required: true
  reason:
    description: Why, for people.
    type: str
    default: ""
  deadline:
    description: How long what runs there has, such as V(30m), V(2h) or V(1d). Empty, it is not waited for.
    type: str
    default: ""
  stop:
    description: Whether what still runs then is ended.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what people would read
  ansible.builtin.debug:
    msg: "{{ ('gpu02' | gpustead.cluster.drain_plan(groups['gpu_nodes'], 'new driver', '2h')).told }}"
"""

RETURN = r"""
_value:
  description:
    - C(node), C(reason), C(since) and C(until) (in UTC), C(seconds) and C(looks) for the wait, and C(told), the words
      for people's terminals.
  type: dict
"""


@filter_errors()
def drain_plan(
    node: str, nodes: Sequence[str], reason: str = "", deadline: str = "", stop: Any = False
) -> dict[str, Any]:
    # From the command line all of it is text.
    return asdict(
        plan(str(node), list(nodes), time.time(), reason=str(reason), deadline=str(deadline), stop=boolean(stop))
    )


FilterModule = filter_module(drain_plan=drain_plan)
