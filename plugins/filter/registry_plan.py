# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/registry/registry_plan: settings to what role registry has on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_plan import Settings, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: registry_plan
short_description: What role registry has on a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives what the role has on a host, which may be the registry, a cache and a node that uses them.
options:
  _input:
    description: What the inventory says of the host, and the role's settings; see its C(vars/main.yml).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where Docker logs in
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.registry_plan).logins }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    is_client: {description: Whether Docker on the host uses a registry or caches., type: bool}
    has_service: {description: Whether the registry runs here as a service., type: bool}
    has_container: {description: Whether it runs here as a container., type: bool}
    caches_cluster: {description: Whether the host caches the cluster's registry., type: bool}
    group: {description: Group of the files that the registry reads., type: str}
    collect: {description: Command that gives back the space of deleted images., type: list, elements: str}
    alternative_names: {description: Names in the host's certificate., type: list, elements: str}
    cache_ports: {description: Ports of the caches on the host., type: list, elements: int}
    directories: {description: "Directories, each with C(path), C(owner) and C(mode).", type: list, elements: dict}
    logins: {description: Where Docker logs in., type: list, elements: str}
    server_files: {description: Files of a registry., type: list, elements: str}
    cache_files: {description: Files of caches., type: list, elements: str}
    client_files: {description: Certificates by which Docker trusts registries., type: list, elements: str}
    mirror_files: {description: Files by which Docker finds caches., type: list, elements: str}
    client_entries:
      description: Both, and who may read the logins, as M(gpustead.cluster.host_files) takes it.
      type: list
      elements: dict
    files: {description: All of these that the host has., type: list, elements: str}
    former_service: {description: Whether the host ran the registry as a service and no longer does., type: bool}
    former_container: {description: The same as a container., type: bool}
    former_caches: {description: The same of caches., type: bool}
    former_files: {description: Files that the host is no longer to have., type: list, elements: str}
    former_logins: {description: Where Docker no longer logs in., type: list, elements: str}
"""


def registry_plan(settings: Mapping[str, Any]) -> dict[str, Any]:
    return vars(plan(Settings(**settings)))


FilterModule = filter_module(registry_plan=registry_plan)
