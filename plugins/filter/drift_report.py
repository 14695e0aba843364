# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/receipts/drift_report: results of receipt_check to a report."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.drift_report import report
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: drift_report
short_description: One report of what the receipts of all hosts no longer vouch for
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Collects what M(gpustead.cluster.receipt_check) found on each host.
  - Of a host without a result, because it could not be reached or asked, it is said why. It is not taken for drift.
options:
  _input:
    description: Results of M(gpustead.cluster.receipt_check), by host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the drift
  ansible.builtin.debug:
    msg: "{{ ({'gpu01': {'unreachable': true, 'msg': 'no route'}} | gpustead.cluster.drift_report).lines }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether nothing was found, and all hosts could be looked at.
      type: bool
    summary:
      description: One line.
      type: str
    findings:
      description: What was found, each with host, role, subject and what. Without a role it is why nothing is known.
      type: list
      elements: dict
    lines:
      description: The same as the lines of a table.
      type: list
      elements: str
    differ:
      description: The hosts of which it is known that something differs.
      type: list
      elements: str
    unknown:
      description: Those that could not be looked at.
      type: list
      elements: str
"""

FilterModule = filter_module(drift_report=report)
