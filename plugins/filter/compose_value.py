# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that writes a value into a compose file as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: compose_value
short_description: A value as it is written into a compose file
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - JSON, which is YAML, too, in which Compose replaces nothing. Compose takes C($) in a value for a variable.
options:
  _input:
    description: The value.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show how a dollar is written
  ansible.builtin.debug:
    msg: "{{ {'PASSWORD': 'a$b'} | gpustead.cluster.compose_value }}"
"""

RETURN = r"""
_value:
  description: The text.
  sample: '{"PASSWORD": "a$$b"}'
  type: str
"""


def compose_value(value: Any) -> str:
    return json.dumps(_escaped(value))


def _escaped(value: Any) -> Any:
    # Names of keys are not replaced.
    if isinstance(value, Mapping):
        return {str(key): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(inner) for inner in value]
    return str(value).replace("$", "$$") if isinstance(value, str) else value


FilterModule = filter_module(compose_value=compose_value)
