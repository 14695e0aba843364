# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/verify/verify_report: results of node_verify to a report."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_report import report
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: verify_report
short_description: One report of what was found on all hosts of the cluster
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Collects the problems that M(gpustead.cluster.node_verify) found on each host, and compares what the hosts saw.
  - A host without a result, because it could not be reached or asked, is a problem.
positional: at, inventory
options:
  _input:
    description: Results of M(gpustead.cluster.node_verify), by host.
    type: dict
    required: true
  at:
    description: The time, in UTC.
    type: str
    default: ""
  inventory:
    description: The sources of the inventory.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the problems
  ansible.builtin.debug:
    msg: "{{ ({'gpu01': {'unreachable': true, 'msg': 'no route'}} | gpustead.cluster.verify_report).lines }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether there are no problems.
      type: bool
    at:
      description: The time, as it was given.
      type: str
    inventory:
      description: The sources of the inventory, as they were given.
      type: list
      elements: str
    summary:
      description: One line.
      type: str
    lines:
      description: A line for each problem.
      type: list
      elements: str
    notices:
      description: A line for each thing that will be a problem soon, such as a certificate that ends, and for what is
        to be known of GPUs.
      type: list
      elements: str
    problems:
      description: The problems, each with host, subject, what and remedy.
      type: list
      elements: dict
    hosts:
      description: What was seen on each host.
      type: dict
"""

FilterModule = filter_module(verify_report=report)
