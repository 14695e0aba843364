# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/docker: what role docker declares of daemon.json, judged before a host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import split
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import problems
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: docker_plan
short_description: What role docker declares of daemon.json
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Refuses settings with which dockerd does not start (options that the log driver does not know, mirrors that are no
    URLs), and those with which a cluster cannot run. All of them are named, one in a line.
  - Tells those that may be shown from those that hold a password or token.
options:
  _input:
    description: Settings in the words of C(daemon.json).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what may be shown
  ansible.builtin.debug:
    msg: "{{ ({'log-driver': 'splunk', 'log-opts': {'splunk-token': 't'}} | gpustead.cluster.docker_plan).plain }}"
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


def docker_plan(settings: Mapping[str, Any]) -> dict[str, Any]:
    found = [str(problem) for problem in problems(settings, "daemon.json")]
    if found:
        raise AnsibleFilterError("\n".join(found))
    return split(settings)


FilterModule = filter_module(docker_plan=docker_plan)
