# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/credentials: settings to those that may be shown, and the others."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import split
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: secret_settings
short_description: Which settings may be shown
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Tells settings that hold a password or token, by their names or in a URL, from the rest.
options:
  _input:
    description: Settings, such as those of M(gpustead.cluster.docker_daemon_config). One may be a dictionary of them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what may be shown
  ansible.builtin.debug:
    msg: "{{ ({'log-opts': {'splunk-token': 't', 'tag': 'a'}} | gpustead.cluster.secret_settings).plain }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    plain: {description: The settings that may be shown., type: dict}
    secret: {description: The others., type: dict}
    keys: {description: "All keys, those of objects as C(object.key).", type: list, elements: str}
    secret_keys: {description: The keys of RV(_value.secret) among them., type: list, elements: str}
"""

FilterModule = filter_module(secret_settings=split)
