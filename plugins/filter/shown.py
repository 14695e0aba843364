# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/terminal: what others said, as it may be shown."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: shown
short_description: What an account or a container said, as it may be shown on a terminal
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Writes control characters, ends of line and what changes the direction of writing as Python writes them.
  - Cuts what is too long.
options:
  _input:
    description: The text, or anything else by what it reads as.
    type: raw
    required: true
  limit:
    description: Longest result, in characters.
    type: int
    default: 400
"""

EXAMPLES = r"""
- name: Show what a process calls itself
  ansible.builtin.debug:
    msg: "{{ __processes.stdout | gpustead.cluster.shown }}"
"""

RETURN = r"""
_value:
  description: One line of printable characters.
  type: str
"""

FilterModule = filter_module(shown=shown)
