# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs of one host, from Ansible's own variables; the same at the check and when a role begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs

# Read once, when Ansible loads the action plugins: the processes that it forks for the hosts share it.
ROLES = inputs.site_roles()
GROUPS = frozenset(group for role in ROLES.values() for group in role.groups)
SCOPES = {name: inputs.read_scope(name, DataLoader()) for name, role in ROLES.items() if role.files}


def variables(task_vars: Mapping[str, Any]) -> Mapping[str, Any]:
    """The host's variables as written, without those of the play, the role and the task."""
    found: Mapping[str, Any] = task_vars["hostvars"].raw_get(task_vars["inventory_hostname"])
    return found


def host_inputs(name: str, given: Mapping[str, Any], templar: Any) -> dict[str, str]:
    """Digests of what this host alone runs a role with: {part: digest}."""
    role = ROLES[name]
    groups = inputs.group_inputs(role, given["group_names"], GROUPS)
    return {**inputs.variable_inputs(role, given), **groups, **file_inputs(name, given, templar)}


def file_inputs(name: str, given: Mapping[str, Any], templar: Any) -> dict[str, str]:
    """Those of the files on the controller. Their names are rendered, with the role's own defaults."""
    if name not in SCOPES:
        return {}
    scope = SCOPES[name]
    known = {**scope.defaults, **given, **scope.variables}
    rendered = templar.copy_with_new_env(available_variables=known).template(scope.files)
    lists = [[entry] if isinstance(entry, str) else entry for entry in rendered]
    return inputs.file_parts({path for paths in lists for path in paths if path})
