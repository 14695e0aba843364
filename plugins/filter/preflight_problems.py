# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/site/preflight: an inventory to its problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.check import GROUPS, VARIABLES, check
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Broken, Site
from jinja2 import Undefined, UndefinedError

DOCUMENTATION = r"""
name: preflight_problems
short_description: Everything that is wrong with a cluster's inventory
version_added: "0.1.0"
author: gpustead developers
description:
  - Looks at the variables of all hosts in the groups C(gpu_nodes), C(nas_server) and C(registry), and says what is
    wrong with them, one line for each problem. No host is asked.
  - A value that cannot be rendered is a problem like others, and hides none of them.
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  groups:
    description: The variable C(groups).
    type: dict
    required: true
positional: groups
"""

EXAMPLES = r"""
- name: Check the inventory
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ hostvars | gpustead.cluster.preflight_problems(groups) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: Problems, each with the place, the value and the remedy.
  type: list
  elements: str
  sample:
    - "cluster_users: the uid 1500 belongs to ada and bob. Give each account a uid of its own."
"""


def plain(value: Any) -> Any:
    """The value without laziness: what is nested in it is rendered, or refused, only when it is looked at."""
    if isinstance(value, Undefined):
        str(value)  # raises and says what is undefined
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def render(variables: Mapping[str, Any], name: str) -> Any:
    try:
        return plain(variables[name])
    except (AnsibleError, UndefinedError) as error:
        return Broken(" ".join(str(error).split()))


def preflight_problems(hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[str]:
    members = {str(host) for group in GROUPS for host in groups.get(group, ())}
    hosts: dict[str, dict[str, Any]] = {}
    for host in members:
        variables = hostvars[host]
        hosts[host] = {name: render(variables, name) for name in VARIABLES if name in variables}
    site = Site(
        {group: [str(host) for host in groups.get(group, ())] for group in GROUPS},
        hosts,
        lambda path: Path(path).read_text(encoding="utf-8"),
    )
    return [str(problem) for problem in check(site)]


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preflight_problems": preflight_problems}
