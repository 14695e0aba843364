# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/site/preflight/answers: what hosts answered to what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.answers import check_answer
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: preflight_answers
short_description: What is wrong with hosts, as they answered the preflight's probe
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Judges the results of the probe in C(playbooks/preflight.yml), which runs without Python.
options:
  _input:
    description: Results of the task that probed, by host.
    type: dict
    required: true
  users:
    description: The accounts that are declared for them, with C(name) and C(uid).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Refuse hosts that the cluster cannot run on
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ {'gpu01': {'rc': 0, 'stdout': 'gpustead.uid=1000'}} | gpustead.cluster.preflight_answers }}"
"""

RETURN = r"""
_value:
  description: Problems, each with the host, what is wrong and the remedy.
  type: list
  elements: str
  sample:
    - "gpu01: no Python 3.9 or newer (sh: 1: python3: not found). Install it there first: apt-get install python3."
"""


def preflight_answers(answers: Mapping[str, Mapping[str, Any]], users: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    return [str(problem) for host, answer in answers.items() for problem in check_answer(host, answer, users)]


FilterModule = filter_module(preflight_answers=preflight_answers)
