# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/firewall/firewall_plan: whom the firewall of a host lets in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import Settings, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: firewall_plan
short_description: Whom the firewall of a host lets in
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes rules of the settings of role firewall and of the groups that a host is in.
options:
  _input:
    description:
      - The settings. C(enabled) says whether the role manages the firewall, C(network) and C(clients) are the networks
        of the nodes and of others that may reach published ports, C(ports) the ports for the nodes by group,
        C(udp_ports) those of UDP, C(lock_ports) where the server of an NFS 3 share calls a node back,
        C(published) and C(bridges) what Docker publishes and by which bridges, C(extra_rules) the site's own rules,
        C(ssh_sources) from where SSH to the host is allowed.
    type: dict
    required: true
  groups:
    description: The groups of the inventory that the host is in.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the rules of this host
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.firewall_plan(group_names)).rules }}"
"""

RETURN = r"""
_value:
  description:
    - C(rules) as M(gpustead.cluster.ufw_rules) takes them; C(governs_docker), whether what Docker publishes is
      filtered, too; and C(policy) as M(gpustead.cluster.foreign_openings) takes it.
  type: dict
"""


def firewall_plan(declared: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    return dict(vars(plan(Settings(**declared), groups)))


FilterModule = filter_module(firewall_plan=firewall_plan)
