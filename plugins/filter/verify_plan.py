# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/verify/verify_plan: a host's variables to what verify expects of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: verify_plan
short_description: What verify expects of a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the options of M(gpustead.cluster.node_verify) for a host, from its variables and the groups of the inventory.
  - Variables that are not set have the defaults of the roles, which playbooks do not see.
positional: groups, host
options:
  _input:
    description: Variables of the host, as C(hostvars[name]).
    type: dict
    required: true
  groups:
    description: The variable C(groups).
    type: dict
    required: true
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what listens on a host
  ansible.builtin.debug:
    msg: "{{ (hostvars['nas1'] | gpustead.cluster.verify_plan(groups, 'nas1')).listening }}"
"""

RETURN = r"""
_value:
  description: The options, by name, except those that role firewall declares.
  type: dict
"""


@filter_errors("workspace_instances")
def verify_plan(variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]], host: str) -> dict[str, Any]:
    return asdict(plan(host, variables, groups))


FilterModule = filter_module(verify_plan=verify_plan)
