# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/accounts: the declared accounts as uid_match takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import to_match

DOCUMENTATION = r"""
name: accounts_to_match
short_description: The declared accounts as uid_match takes them
version_added: "0.1.0"
author: gpustead developers
description:
  - Without their SSH keys, which are none of its business.
  - Those whose directory on the share could not be as declared keep their ids.
options:
  _input:
    description: The declared accounts.
    type: list
    elements: dict
    required: true
  asked:
    description: What M(gpustead.cluster.nas_files) refused of their directories, C(users/NAME).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Bring the accounts to their ids
  gpustead.cluster.uid_match:
    users: "{{ users | gpustead.cluster.accounts_to_match(asked.refused) }}"
"""

RETURN = r"""
_value:
  description: The accounts, with C(hold) where something is in the way of another id.
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"accounts_to_match": to_match}
