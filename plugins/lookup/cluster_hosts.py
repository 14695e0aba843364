# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of the hosts of the inventory, which refuses one that was not read as it was meant."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_hosts
short_description: All hosts of the inventory, if its files were read
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the names of all hosts. It fails where a file of the inventory could not be read, with the file, the line and
    what to do, and where there is no host at all.
  - It stands in the C(hosts) of a play, since Ansible looks at that before it reads any variable of a host, and also
    where C(--limit) leaves no host.
options: {}
"""

EXAMPLES = r"""
- name: Preflight
  hosts: "{{ query('gpustead.cluster.cluster_hosts') }}"
  gather_facts: false
"""

RETURN = r"""
_list:
  description: Names of hosts.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Problem
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_files import listed, unread

EMPTY = Problem(
    "inventory", "there is no host in it", "Give the directory of your cluster, such as -i inventory/mycluster."
)


class LookupModule(LookupBase):
    """Runs on the controller, once for a play."""

    def run(self, terms: Any, variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        given = variables or {}
        groups: Mapping[str, Sequence[str]] = given["groups"]
        hosts = [str(host) for host in groups.get("all", [])]
        sources = [str(source) for source in context.CLIARGS.get("inventory") or ()]
        problems = unread(self._loader, sources, groups, [self._loader.get_basedir()])
        if not hosts and not problems:
            problems = [EMPTY]
        # A check of the syntax, or a list of tasks, is none of a cluster.
        if problems and not any(context.CLIARGS.get(name) for name in ("syntax", "listhosts", "listtasks", "listtags")):
            raise AnsibleError(listed(problems))
        return hosts or ["localhost"]
