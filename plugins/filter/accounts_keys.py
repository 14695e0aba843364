# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/authorized_keys: the accounts whose keys are settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import of_accounts

DOCUMENTATION = r"""
name: accounts_keys
short_description: The accounts whose SSH keys a role has to settle
version_added: "0.1.0"
author: gpustead developers
description:
  - Those that have keys, may have no others, or had some that are not declared any more.
options:
  _input:
    description: The declared accounts.
    type: list
    elements: dict
    required: true
  known:
    description: The accounts as they are on the host, C(users) of M(gpustead.cluster.uid_match).
    type: list
    elements: dict
    required: true
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    required: true
"""

EXAMPLES = r"""
- name: Authorize the declared keys, and no longer those that are not
  gpustead.cluster.authorized_keys:
    accounts: "{{ users | gpustead.cluster.accounts_keys(done.users, receipt.previous) }}"
"""

RETURN = r"""
_value:
  description: The accounts, as M(gpustead.cluster.authorized_keys) takes them.
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"accounts_keys": of_accounts}
