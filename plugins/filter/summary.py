# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/site/summary: the nodes of a cluster to what it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import Settings
from ansible_collections.gpustead.cluster.plugins.module_utils.site import summary as page
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.last_report import read_report
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_words import names

DOCUMENTATION = r"""
name: summary
short_description: What the cluster offers, from the inventory and the last report of verify
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Says of each workspace where its services are reached, how one logs in, and who reaches which ports. No host is
    asked.
positional: hostvars, example
options:
  _input:
    description: Names of the GPU nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  example:
    description: The node whose settings stand for those of all.
    type: str
    required: true
  firewalls:
    description: Of each host that has a firewall, C(__firewall_declared) and C(firewall_ssh_port) of role firewall.
    type: dict
    default: {}
  report:
    description: The text of the report of C(playbooks/verify.yml); empty where there is none.
    type: str
    default: ""
  inventory:
    description: The sources of the inventory. A report of another one is left aside.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show where the services of a node are
  ansible.builtin.debug:
    msg: "{{ (['gpu01'] | gpustead.cluster.summary(hostvars, 'gpu01')).nodes[0].workspaces }}"
"""

RETURN = r"""
_value:
  description: What the pages say.
  type: dict
  contains:
    facts:
      description: What there is, in numbers.
      type: list
      elements: str
    nodes:
      description:
        - The nodes, each with C(name), C(gpus) and C(state) (V(well), V(ill), V(unknown)) as verify saw them, and
          C(workspaces). Of these each has C(owner), empty where that need not be said, and C(services) with C(title),
          C(where), C(is_http) and C(local).
      type: list
      elements: dict
    owner:
      description: The cluster's owner.
      type: str
    secret:
      description: What the owner's JupyterLab asks for; V(file) is a token that was made once.
      type: str
      choices: [password, token, file]
    of_others:
      description: Whether others have workspaces, too.
      type: bool
    read_token:
      description: Command that shows that token, on a node.
      type: str
    log_in:
      description: Command that logs in to a node.
      type: str
    train:
      description: Command that trains over all nodes, on one of them.
      type: str
    reach:
      description:
        - Ports, each with C(what) listens there, C(ports), C(hosts), and whether C(outsiders), C(clients) and C(nodes)
          reach it (V(yes), V(no), V(some), of which C(sources) says who, V(unknown) where the firewall is not ours, or
          empty where there are none).
      type: list
      elements: dict
    networks:
      description: The networks of C(nodes) and C(clients).
      type: dict
    verified:
      description: What verify found, with C(at), its time, which is empty where there is no report.
      type: dict
"""


@filter_errors("workspace_instances")
def summary(
    nodes: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    example: str,
    *,
    firewalls: Mapping[str, Mapping[str, Any]] | None = None,
    report: str = "",
    inventory: Sequence[str] = (),
) -> dict[str, Any]:
    known = {
        host: page.FirewallOfHost(Settings(**one["__firewall_declared"]), one["firewall_ssh_port"], hostvars[host])
        for host, one in (firewalls or {}).items()
    }
    found = page.summary({node: hostvars[node] for node in nodes}, example, known, read_report(report, inventory))
    groups = {frozenset(nodes): "all nodes", frozenset(known): "all hosts"}
    rows = [{**asdict(row), "hosts": groups.get(frozenset(row.hosts)) or names(row.hosts, 8)} for row in found.reach]
    return {**asdict(found), "reach": rows}


FilterModule = filter_module(summary=summary)
