# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/registry/registry_caches: which cache of registries each node has."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_caches import of_nodes
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: registry_caches
short_description: Which cache of registries each GPU node has
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - The hosts of group C(gpu_nodes) take those of group C(registry_caches) in turn.
positional: variables
options:
  _input:
    description: The groups of the inventory, as Ansible has them in C(groups).
    type: dict
    required: true
  variables:
    description: Variables of all hosts, as Ansible has them in C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where this node finds images that others have pulled
  ansible.builtin.debug:
    msg: "{{ (groups | gpustead.cluster.registry_caches(hostvars))[inventory_hostname].address | default('nowhere') }}"
"""

RETURN = r"""
_value:
  description: C(host) and C(address) of the cache, by the name of the node. Empty where there are no caches.
  type: dict
"""

FilterModule = filter_module(registry_caches=of_nodes)
