# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/nas/nas_quotas: what each account may have on the share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_quotas import limits
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: nas_quotas
short_description: What each account may have on the share
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Makes limits of a size and of the accounts, some of which have one of their own.
  - Fails for what is no size, and for an account without a uid.
options:
  _input:
    description: What each may have, such as V(500G). V(0) is no limit; empty, nobody has one, whatever O(users) say.
    type: str
    required: true
  users:
    description: The accounts, with C(uid), and C(quota) where another size counts.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the limits
  ansible.builtin.debug:
    msg: "{{ '500G' | gpustead.cluster.nas_quotas(cluster_users) }}"
"""

RETURN = r"""
_value:
  description: Limits in KiB, by uid.
  type: dict
"""


@filter_errors()
def nas_quotas(quota: Any, users: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return limits(quota, users)


FilterModule = filter_module(nas_quotas=nas_quotas)
