# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/nodes/drain_report: what a drain has come to, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.drain_report import report
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: drain_report
short_description: What a drain has come to, in words
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Says whether anything runs on the node that was to have ended, and what.
positional: plan, silent
options:
  _input:
    description: What M(gpustead.cluster.node_work_info) or M(gpustead.cluster.node_work) last returned of the node.
    type: dict
    required: true
  plan:
    description: What P(gpustead.cluster.drain_plan#filter) made.
    type: dict
    required: true
  silent:
    description: Names of the nodes that do not answer.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say what runs there
  ansible.builtin.debug:
    msg: "{{ (work | gpustead.cluster.drain_report(plan)).lines }}"
"""

RETURN = r"""
_value:
  description: C(ok), whether nothing is left that was to have ended, and C(lines).
  type: dict
"""


@filter_errors()
def drain_report(found: Mapping[str, Any], plan: Mapping[str, Any], silent: Sequence[str] = ()) -> dict[str, Any]:
    return asdict(report(plan, found, silent))


FilterModule = filter_module(drain_report=drain_report)
