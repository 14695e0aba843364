# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/workspaces: a host's variables to its workspaces."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import of_host
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: host_workspaces
short_description: The workspaces that a host's variables declare
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - For playbooks, which do not see the defaults of role workspace; in it, P(gpustead.cluster.workspaces#filter) serves.
positional: user
options:
  _input:
    description: Variables of a GPU node, as C(hostvars[name]).
    type: dict
    required: true
  user:
    description: Only the workspaces in which this account may log in, its own one first.
    type: str
    default: ""
seealso:
  - plugin: gpustead.cluster.workspaces
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show where ada finds SSH
  ansible.builtin.debug:
    msg: "{{ (hostvars['gpu01'] | gpustead.cluster.host_workspaces('ada') | first).ports.ssh }}"
"""

RETURN = r"""
_value:
  description: The workspaces, as P(gpustead.cluster.workspaces#filter) gives them.
  type: list
  elements: dict
"""


@filter_errors("workspace_instances")
def host_workspaces(variables: Any, user: str = "") -> list[dict[str, Any]]:
    return [asdict(workspace) for workspace in of_host(variables, user)]


FilterModule = filter_module(host_workspaces=host_workspaces)
