# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs of one host, from Ansible's own variables; the same at the check and when a role begins."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs
from ansible_collections.gpustead.cluster.plugins.plugin_utils import template_names

# Read once, when Ansible loads the action plugins: the processes that it forks for the hosts share it.
ROLES = inputs.site_roles()
GROUPS = frozenset(group for role in ROLES.values() for group in role.groups)
# Groups of site.yml's own, which are there when a role begins or has run, and not at the check.
PASSING = frozenset({"site_unasked", "site_stale", "site_broken", "registry_uncollected"})


# What is the inventory's or the run's, and may differ between hosts of several inventories.
PLACES = ("inventory_dir", "inventory_file", "playbook_dir")


def as_written(action: ActionBase, hostvars: Any, name: str) -> Mapping[str, Any]:
    """A host's variables as written: with those of the play, without those of the role and the task."""
    play = action._task.get_play()
    given: Mapping[str, Any]
    if not (play.vars or play.vars_files):  # as a rule; it is cheaper
        given = hostvars.raw_get(name)
    else:
        manager = action._task.get_variable_manager()
        host = manager._inventory.get_host(name)
        given = manager.get_vars(play=play, host=host, include_hostvars=False)
    return given


class HostInputs:
    """Digests of what one host alone runs roles with.

    Args:
        kept: what was found out for other hosts of the same run.
    """

    def __init__(self, action: ActionBase, task_vars: Mapping[str, Any], kept: inputs.Kept | None = None) -> None:
        self.basedir = action._loader.get_basedir()
        self.hostvars, self.host = task_vars["hostvars"], task_vars["inventory_hostname"]
        self.kept = kept or inputs.Kept()
        # One for all hosts: each new one looks for every filter again.
        self.templar = self.kept.once("templar", lambda: action._templar.copy_with_new_env(available_variables={}))
        self.given = as_written(action, self.hostvars, self.host)
        self.variables = inputs.without_facts(self.given)
        self.group_names = [group for group in self.given["group_names"] if group not in PASSING]

    def value(self, name: str, default: Any) -> Any:
        """A variable as the host has it, rendered."""
        value = self.given.get(name, default)
        if isinstance(value, (str, bool)) and not any(template_names.texts([value])):
            return value
        return self._template({**self.given, "hostvars": self.hostvars}, value)

    def of_role(self, name: str) -> dict[str, str]:
        """What the host runs a role with: {part: digest}."""
        role = ROLES[name]
        return {**inputs.group_inputs(role, self.group_names, GROUPS), **self.of_variables(role), **self.files(name)}

    def of_variables(self, role: inputs.Role) -> dict[str, str]:
        """The variables among them: as written what the role reads, and its leaves as rendered."""
        reached, _second = inputs.search(role.reached, role, self.variables, self.kept, role.leaves)
        parts = {f"variable {variable}": self._as_written(role, variable) for variable in reached}
        for leaf in role.rendered:
            parts.update(self._leaf(role, leaf))
        for leaf in role.by_host:
            table, trouble = self._table(role, leaf)
            line = {f"variable {leaf}": inputs.digest(table[self.host])} if self.host in table else {}
            parts.update(trouble or line)
        return parts

    def current(self, name: str) -> list[list[Any]]:
        """What must be there as the inventory has it now: [[kind, subject], ...]."""
        role = ROLES[name]
        if not role.current or self.host not in self._table(role, role.current_on)[0]:
            return []
        self._refuse_what_only_a_run_knows(role, "current", template_names.identifiers([role.current]))
        rendered = self._render(role, dict(role.current), "current")
        return [[kind, subject] for kind, subjects in rendered.items() for subject in subjects]

    def files(self, name: str) -> dict[str, str]:
        """Those of the files on the controller, as they are now: roles write some of them."""
        paths = self.paths(name)
        return self.kept.once(("contents", *paths), lambda: inputs.file_parts(paths))

    def paths(self, name: str) -> list[str]:
        """Which files these are, by the role's expressions for them."""
        role = ROLES[name]
        if not role.files:
            return []
        key = self._key(role, "its files", self._reach(role, "its files", template_names.identifiers(role.files)))
        rendered = self.kept.once(key, lambda: self._render(role, list(role.files)))
        lists = [[entry] if isinstance(entry, str) else entry for entry in rendered]
        return sorted({path for paths in lists for path in paths if path})

    def _as_written(self, role: inputs.Role, variable: str) -> str:
        """The digest of a variable of the host's; of one that looks beyond itself also as it is rendered."""
        value = self.variables[variable]
        named = self.kept.identifiers(value)
        if not named or not inputs.reach(named, role, role.leaves) & inputs.LOOKS_AROUND:
            return self.kept.digest(value)
        key = self._key(role, variable, inputs.reach([variable, *named], role))
        return self.kept.once(("seen", *key), lambda: inputs.digest([value, self._render(role, value, variable)]))

    def _leaf(self, role: inputs.Role, leaf: str) -> dict[str, str]:
        def make() -> dict[str, str]:
            value, trouble = self._value(role, leaf)
            return trouble or inputs.leaf_parts(leaf, value)

        return self.kept.once(("parts", *self._key(role, leaf, self._reach(role, leaf, [leaf]))), make)

    def _table(self, role: inputs.Role, leaf: str) -> tuple[Mapping[str, Any], dict[str, str]]:
        """A leaf's lines by host; where it cannot be rendered none, and the part that says so."""

        def make() -> tuple[Mapping[str, Any], dict[str, str]]:
            value, trouble = self._value(role, leaf)
            return ({}, trouble) if trouble else (dict(value), {})

        return self.kept.once(self._key(role, leaf, self._reach(role, leaf, [leaf])), make)

    def _value(self, role: inputs.Role, leaf: str) -> tuple[Any, dict[str, str]]:
        """A leaf as rendered; where that fails a part that is never the same, so that the role runs and complains."""
        self._refuse_what_only_a_run_knows(role, leaf, [leaf])
        value = {**role.defaults, **self.variables, **role.variables}[leaf]
        try:
            return self._seen(role, value), {}
        except AnsibleError as error:
            words = " ".join(str(error).split())
            return None, {f"variable {leaf}, which cannot be told ({words})": secrets.token_hex(12)}

    def _refuse_what_only_a_run_knows(self, role: inputs.Role, what: str, names: Iterable[str]) -> None:
        forbidden = inputs.only_in_a_run(role, names, self.variables, self.kept)
        if forbidden:
            raise AnsibleActionFail(
                f"{what} of role {role.name} depends on {', '.join(forbidden)}: expected a value that can be told "
                f"before the role runs on {self.host}. Let it, and what it names, look at the inventory alone."
            )

    def _reach(self, role: inputs.Role, what: str, names: Iterable[str]) -> set[str]:
        return self.kept.once(("reach", role.name, what), lambda: inputs.reach(names, role))

    def _key(self, role: inputs.Role, what: str, named: Collection[str]) -> tuple[Any, ...]:
        """What rendering depends on: hosts with the same key get the same."""
        reached, seen = inputs.search(named, role, self.variables, self.kept)
        of_one = self.kept.once(("of one", frozenset(seen)), lambda: inputs.is_of_one_host(seen))
        return (
            *(role.name, what, self.host if of_one else ""),
            tuple(self.group_names) if "group_names" in seen else (),
            tuple(self.given.get(place) for place in PLACES),
            tuple(sorted((name, self.kept.digest(self.variables[name])) for name in reached)),
        )

    def _render(self, role: inputs.Role, value: Any, what: str = "its files") -> Any:
        """What a role sees of a value.

        Raises:
            AnsibleActionFail: it cannot be told; with the name of what that is.
        """
        try:
            return self._seen(role, value)
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"{what} of {self.host}: expected a value that can be told before role {role.name} runs "
                f"({error}). Correct what it looks at, or let it look at the inventory alone."
            ) from error

    def _seen(self, role: inputs.Role, value: Any) -> Any:
        """What a role sees of a value. All that it can depend on stands here, as the check is not in the role."""
        folder = str(role.variables["role_path"])
        known = {
            **role.defaults,
            **self.variables,
            **role.variables,
            "hostvars": self.hostvars,
            "groups": {group: hosts for group, hosts in self.given["groups"].items() if group not in PASSING},
            "group_names": self.group_names,
            "ansible_search_path": [folder, f"{folder}/tasks", self.basedir],
        }
        return self._template(known, value)

    def _template(self, known: Mapping[str, Any], value: Any) -> Any:
        self.templar.available_variables = known
        return self.templar.template(value)


def shared_inputs(ours: HostInputs) -> dict[str, Any]:
    """What all hosts run the roles with: `common`, of each role digests by a phrase that names the input.

    Args:
        ours: the inputs of any host.
    """
    groups = ours.given["groups"]
    read = {group for role in ROLES.values() for group in inputs.groups_of_others(role, ROLES)}
    hosts = {host for group in read for host in groups.get(group, [])}
    variables = {host: inputs.without_facts(ours.hostvars.raw_get(host)) for host in sorted(hosts)}
    return {"common": inputs.common_inputs(ROLES, groups, variables, core)}
