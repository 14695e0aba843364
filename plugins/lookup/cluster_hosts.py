# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of the hosts of a play; it refuses an inventory that was not read as it was meant, and a play for nobody."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_hosts
short_description: The hosts of a play, if the files of the inventory were read
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the names of all hosts, or those of the groups that it is asked for in which there are hosts. It fails where a
    file of the inventory could not be read, with the file, the line and what to do, where there is no host at all, and
    where one C(-i) takes several clusters together.
  - Asked for groups, it also fails where there is no host in the first, where C(--limit) leaves none of any, and for
    names in C(--limit) and tags that there are not. Ansible itself ends such a run well.
  - It stands in the C(hosts) of a play, since Ansible looks at that before it reads any variable of a host, and also
    where C(--limit) leaves no host.
options:
  _terms:
    description: Groups, or other patterns of hosts.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Preflight
  hosts: "{{ query('gpustead.cluster.cluster_hosts') }}"
  gather_facts: false

- name: Train on the nodes
  hosts: "{{ query('gpustead.cluster.cluster_hosts', 'gpu_nodes') }}"
  gather_facts: false
"""

RETURN = r"""
_list:
  description: Names of hosts, or the groups and patterns of those asked for that have hosts.
  type: list
  elements: str
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.loader import filter_loader
from ansible.plugins.lookup import LookupBase
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import GROUPS, Problem, no_host
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import did_you_mean
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_files import listed, unread
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_run import of_run

EMPTY = Problem(
    "inventory", "there is no host in it", "Give the directory of your cluster, such as -i inventory/mycluster."
)
LOCAL = ("localhost", "127.0.0.1")
Groups = Mapping[str, Sequence[str]]


class LookupModule(LookupBase):
    """Runs on the controller, once for a play."""

    def run(self, terms: Any, variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        # To find a filter Ansible loads all of its collection: once here, not in each process that it forks later.
        filter_loader.get("gpustead.cluster.services")
        groups: Groups = (variables or {})["groups"]
        wanted = [str(one) for term in terms for one in (term if isinstance(term, list) else [term])]
        hosts = [str(host) for host in groups.get("all", [])]
        # A check of the syntax, or a list of tasks, is none of a cluster.
        if any(context.CLIARGS.get(name) for name in ("syntax", "listhosts", "listtasks", "listtags")):
            return wanted or hosts or ["localhost"]
        sources = [str(source) for source in context.CLIARGS.get("inventory") or ()]
        # Where nothing is given, it is Ansible's own place for one.
        sources = [] if sources == C.DEFAULT_HOST_LIST and not any(map(os.path.exists, sources)) else sources
        problems = unread(self._loader, sources, groups, [self._loader.get_basedir()])
        if not hosts and not problems and not {*wanted} & {*LOCAL}:
            problems = [EMPTY]
        found: dict[str, list[str]] = {}
        if wanted and not problems:
            manager = self._inventory(groups)
            known = [one for one in wanted if one in groups or one not in GROUPS]
            found = {one: names for one in known for names in [self._hosts(manager, one)] if names}
            problems = self._problems(manager, wanted, found, groups)
        if problems:
            raise AnsibleError(listed(problems))
        return [*found] if wanted else hosts

    def _problems(
        self, manager: InventoryManager, wanted: Sequence[str], found: Groups, groups: Groups
    ) -> list[Problem]:
        if wanted[0] not in found:
            return [_nobody(wanted[0], groups)]
        manager.subset(context.CLIARGS.get("subset"))
        left = [name for one in found for name in self._hosts(manager, one)]
        return [*of_run(context.CLIARGS, groups, left, found)]

    def _inventory(self, groups: Groups) -> InventoryManager:
        """The inventory as far as patterns look at it; a lookup is not given Ansible's own."""
        manager = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            manager.add_group(group)
            for host in hosts:
                manager.add_host(host, group=group)
        return manager

    def _hosts(self, manager: InventoryManager, pattern: str) -> list[str]:
        return [host.name for host in manager.get_hosts(pattern)]


def _nobody(pattern: str, groups: Groups) -> Problem:
    if pattern in GROUPS:
        return no_host(pattern)
    hosts = groups.get("all", ())
    remedy = did_you_mean(pattern, [*hosts, *groups], "Add it to the inventory, or name one that is there.")
    return Problem("hosts", f"{pattern!r} is no host and no group of this inventory", remedy)
