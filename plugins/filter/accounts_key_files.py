# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/authorized_keys: what a receipt holds of the files with keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import files_of

DOCUMENTATION = r"""
name: accounts_key_files
short_description: What a receipt looks at of the files with the SSH keys of accounts
version_added: "0.1.0"
author: gpustead developers
description:
  - Each file is looked at as its account, below its home and through no link.
options:
  _input:
    description: The declared accounts.
    type: list
    elements: dict
    required: true
  known:
    description: The accounts as they are on the host, or as they are declared where that is not known yet.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what a receipt looks at
  ansible.builtin.debug:
    msg: "{{ users | gpustead.cluster.accounts_key_files(done.users) }}"
"""

RETURN = r"""
_value:
  description: Subjects of the probe C(lines).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"accounts_key_files": files_of}
