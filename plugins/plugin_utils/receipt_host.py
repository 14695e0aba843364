# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs of one host, from Ansible's own variables; the same at the check and when a role begins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs

# Read once, when Ansible loads the action plugins: the processes that it forks for the hosts share it.
ROLES = inputs.site_roles()
GROUPS = frozenset(group for role in ROLES.values() for group in role.groups)
# Groups of site.yml's own, which are there when a role begins or has run, and not at the check.
PASSING = frozenset({"site_unasked", "site_stale", "site_broken", "registry_uncollected"})


@cache
def scope(name: str) -> inputs.Scope:
    return inputs.read_scope(name, DataLoader())


for _name, _role in ROLES.items():
    if _role.files:
        scope(_name)


class HostInputs:
    """Digests of what one host alone runs roles with."""

    def __init__(self, action: ActionBase, task_vars: Mapping[str, Any]) -> None:
        self.templar, self.basedir = action._templar, action._loader.get_basedir()
        self.hostvars, self.host = task_vars["hostvars"], task_vars["inventory_hostname"]
        self.given = self._given(action)

    def _given(self, action: ActionBase) -> Mapping[str, Any]:
        """The host's variables as written: with those of the play, without those of the role and the task."""
        play = action._task.get_play()
        given: Mapping[str, Any]
        if not (play.vars or play.vars_files):  # as a rule; it is cheaper
            given = self.hostvars.raw_get(self.host)
        else:
            manager = action._task.get_variable_manager()
            host = manager._inventory.get_host(self.host)
            given = manager.get_vars(play=play, host=host, include_hostvars=False)
        return given

    def value(self, name: str, default: Any) -> Any:
        """A variable as the host has it, rendered."""
        return self._template({**self.given, "hostvars": self.hostvars}, self.given.get(name, default))

    def of_role(self, name: str, shared: Mapping[str, Any] | None = None) -> dict[str, str]:
        """What the host runs a role with: {part: digest}. `shared` is what another host has from `paths`."""
        role = ROLES[name]

        def render(variable: str, value: Any) -> Any:
            return self._render(name, variable, value)

        return {
            **inputs.variable_inputs(role, self.given, render),
            **inputs.group_inputs(role, self.given["group_names"], GROUPS),
            **self.files(name, shared),
        }

    def files(self, name: str, shared: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Those of the files on the controller, as they are now: roles write some of them."""
        return inputs.file_parts(self.paths(name, shared)["paths"])

    def paths(self, name: str, shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Which files these are: {"key": what hosts that share them have in common, "paths": their names}.

        The names are rendered, with the role's own defaults. That takes most of the time of a check, so a host takes
        over what another has found if nothing that they depend on differs.
        """
        if not ROLES[name].files:
            return {"key": "", "paths": []}
        known = {**scope(name).defaults, **self.given, **scope(name).variables}
        key = inputs.rendering_key(scope(name).files, known)
        if key and shared and shared["key"] == key:
            return dict(shared)
        rendered = self._template(known, scope(name).files)
        lists = [[entry] if isinstance(entry, str) else entry for entry in rendered]
        return {"key": key, "paths": sorted({path for paths in lists for path in paths if path})}

    def _render(self, name: str, variable: str, value: Any) -> Any:
        """What a role sees of a variable. All that it can depend on stands here, as the check is not in the role."""
        own = scope(name)
        folder = str(own.variables["role_path"])
        known = {
            **own.defaults,
            **self.given,
            **own.variables,
            "hostvars": self.hostvars,
            "groups": {group: hosts for group, hosts in self.given["groups"].items() if group not in PASSING},
            "group_names": [group for group in self.given["group_names"] if group not in PASSING],
            "ansible_search_path": [folder, f"{folder}/tasks", self.basedir],
        }
        try:
            return self._template(known, value)
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"{variable} of {self.host}: expected a value that can be told before role {name} runs, as it looks at "
                f"files or other hosts ({error}). Correct what it looks at, or let it look at the inventory alone."
            ) from error

    def _template(self, known: Mapping[str, Any], value: Any) -> Any:
        return self.templar.copy_with_new_env(available_variables=known).template(value)


def shared_inputs(ours: HostInputs) -> dict[str, Any]:
    """What all hosts run the roles with, and what they may take over from one of them.

    Args:
        ours: the inputs of any host.

    Returns:
        `common`: of each role, digests by a phrase that names the input; `files`: see `HostInputs.paths`.
    """
    groups = ours.given["groups"]
    hosts = {
        host
        for role in ROLES.values()
        if role.reads_of_others
        for group in role.reads_groups
        for host in groups.get(group, [])
    }
    variables = {host: inputs.without_facts(ours.hostvars.raw_get(host)) for host in sorted(hosts)}
    return {
        "common": inputs.common_inputs(ROLES, groups, variables, core),
        "files": {name: _paths(ours, name) for name in ROLES},
    }


def _paths(ours: HostInputs, name: str) -> dict[str, Any]:
    """The files that a host runs a role with. Where they cannot be told, its own check says why, to it alone."""
    try:
        return ours.paths(name)
    except AnsibleError:
        return {"key": "", "paths": []}
