# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of what variables of a role say on several hosts, none of which runs the role."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_variables
short_description: What variables of a role say on several hosts
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Renders variables of a role of this collection for each host, with the role's defaults and what the inventory says
    of the host. A task of each host, which would include the role for its variables, takes a hundred times as long.
  - They must not look at facts, nor at what tasks have registered.
options:
  _terms:
    description: Names of variables.
    type: list
    elements: str
    required: true
  role:
    description: The role.
    type: str
    required: true
  hosts:
    description: The hosts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which networks may reach each node
  ansible.builtin.debug:
    msg: >-
      {{ lookup('gpustead.cluster.role_variables', 'firewall_clients', role='firewall', hosts=groups['gpu_nodes']) }}
"""

RETURN = r"""
_raw:
  description: Host to a dictionary of the variables.
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import (
    COLLECTION,
    read_role,
    without_facts,
)


class LookupModule(LookupBase):
    """Runs on the controller."""

    def run(self, terms: Sequence[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        role = read_role(COLLECTION / "roles" / self.get_option("role"), self._loader)
        hostvars: Any = (variables or {})["hostvars"]

        def rendered(host: str) -> dict[str, Any]:
            given: Mapping[str, Any] = without_facts(hostvars.raw_get(host))
            known = {**role.defaults, **given, **role.variables, "hostvars": hostvars}
            templar = self._templar.copy_with_new_env(available_variables=known)
            return {name: templar.template(known[name]) for name in terms}

        return [{host: rendered(host) for host in self.get_option("hosts")}]
