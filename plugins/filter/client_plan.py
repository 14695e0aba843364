# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/workspaces/client_plan: what role client tells a user's machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.client_plan import plan

DOCUMENTATION = r"""
name: client_plan
short_description: What role client tells a user's machine of nodes and workspaces
version_added: "0.1.0"
author: gpustead developers
description:
  - Gives the names, ports and host keys of nodes, and of the workspaces of a user there.
positional: hostvars, user
options:
  _input:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  user:
    description: The account. Of its workspaces on a node the first one counts, its own before those of others.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the names that ada's machine knows
  ansible.builtin.debug:
    msg: "{{ (groups['gpu_nodes'] | gpustead.cluster.client_plan(hostvars, 'ada')).hosts | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) with C(name), C(address) and C(port); C(host_keys) with C(name) and C(key); and C(projects), the compose
      projects of the workspaces.
  type: dict
"""


def client_plan(nodes: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], user: str) -> dict[str, Any]:
    try:
        return asdict(plan(nodes, hostvars, user))
    except GpusteadError as error:
        raise AnsibleFilterError(f"workspace_instances: {error}") from error


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"client_plan": client_plan}
