# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/accounts/accounts_plan: what role accounts wants of a host and of the share."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.accounts_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: accounts_plan
short_description: What role accounts wants of a host and of the share
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes of the declared accounts what the tasks of the role take, and what its receipt holds.
  - Fails where two accounts are given one name or one uid, or there is no owner.
  - An account whose directory on the share could not be as declared keeps its ids.
positional: owner, service_account, share
options:
  _input:
    description: The declared accounts.
    type: list
    elements: dict
    required: true
  owner:
    description: Name of the account that owns the directory C(shared).
    type: str
    required: true
  service_account:
    description: C(name), C(uid) and C(gid) of the account that the layout of the share belongs to.
    type: dict
    required: true
  share:
    description: Where the share is mounted. Empty on a host that makes nothing there.
    type: str
    default: ""
  known:
    description: The accounts as they are on the host, C(users) of M(gpustead.cluster.uid_match). Default not known yet.
    type: list
    elements: dict
  refused:
    description: What M(gpustead.cluster.nas_files) refused of the declared directories.
    type: list
    elements: dict
    default: []
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    default: []
  common:
    description: The groups, places and caches that accounts have in common, C(accounts_common) of role accounts.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show which directories on the share the accounts get
  ansible.builtin.debug:
    msg: "{{ (cluster_users | gpustead.cluster.accounts_plan('ada', {'name': 'gpustead', 'uid': 941, 'gid': 941},
      '/mnt/nas')).declared_directories }}"
"""

RETURN = r"""
_value:
  description:
    - What modules take, C(layout_owner) (C(uid), C(gid)), C(service_account), C(users), C(former) (names),
      C(authorized_keys), C(layout), C(declared_directories), C(directories), and C(receipt) with the subjects of kinds
      C(user), C(lines) and C(file).
  type: dict
"""


def accounts_plan(*declared: Any, **answers: Any) -> dict[str, Any]:
    found = plan(*declared, **answers)
    if found.problems:
        raise AnsibleFilterError("\n".join(found.problems))
    return {name: value for name, value in vars(found).items() if name != "problems"}


FilterModule = filter_module(accounts_plan=accounts_plan)
