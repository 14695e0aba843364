# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/registry/registry_caches: where all caches of registries answer."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_caches import places
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: registry_cache_places
short_description: Where the caches of registries answer
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - A node may have pulled from any of them, as it may have been given another since.
seealso:
  - plugin: gpustead.cluster.registry_caches
    plugin_type: filter
positional: variables, port
options:
  _input:
    description: The groups of the inventory, as Ansible has them in C(groups).
    type: dict
    required: true
  variables:
    description: Variables of all hosts, as Ansible has them in C(hostvars).
    type: dict
    required: true
  port:
    description: The port of all caches.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the caches
  ansible.builtin.debug:
    msg: "{{ groups | gpustead.cluster.registry_cache_places(hostvars, 5010) }}"
"""

RETURN = r"""
_value:
  description: The address and port of each cache, as C(address:port). Empty where there are no caches.
  type: list
  elements: str
"""

FilterModule = filter_module(registry_cache_places=places)
