# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every setting of every host, rendered and held against the argument specs, before anything is changed.

What hosts have in common is looked at once: a host is compared with one of the same groups that was looked at before,
value by value (Ansible keeps those of group_vars as one object for all hosts), and of the settings only those are
looked at again that depend on what differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Callable

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleFilterError
from ansible.parsing.vault import AnsibleVaultError
from ansible.plugins.loader import become_loader, connection_loader
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import texts
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight import connections, names
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.check import VARIABLES
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    GROUPS,
    Broken,
    KnownProblems,
    Made,
    Problem,
)
from ansible_collections.gpustead.cluster.plugins.plugin_utils import preflight_specs, receipt_inputs, template_names
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_places import is_vaulted, place
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import GROUPS as RUN_GROUPS
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import ROLES

# By what each host is told from the others: no setting is wrong on one host alone for it, unless the site's own values
# look at it. The checks of addresses look at each.
IDENTITY = receipt_inputs.CONNECTION | {"cluster_address", "inventory_hostname", "inventory_hostname_short"}
# Rendering it makes the password that it cannot find.
MAKES = re.compile(r"(?:lookup|query|q)\(\s*['\"](?:ansible\.(?:builtin|legacy)\.)?password['\"]")
# A setting of a role ("" is of none), or one of its variables that a filter of ours makes: a plan, which may refuse.
Item = tuple[str, str]
_OF_ANSIBLE = re.compile(r"^The filter plugin 'gpustead\.cluster\.\w+' failed[:.] ?")
_PLAN = re.compile(r"\|\s*gpustead\.cluster\.\w+")


@dataclass
class Looked:
    """What was found out about a host, by setting.

    Attributes:
        given: its variables as written, without facts.
        depends: the names that each setting leads to, by way of the host's variables and the role's own.
        reached: the host's variables among them.
        problems: what is wrong, by setting.
        values: the settings that are given, rendered; Broken where nothing can be made of one.
    """

    given: Mapping[str, Any]
    depends: dict[Item, frozenset[str]] = field(default_factory=dict)
    reached: dict[Item, tuple[str, ...]] = field(default_factory=dict)
    problems: dict[Item, list[Problem]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def take(self, item: Item, other: Looked) -> None:
        """What was found out about another host, which has all that this one depends on, but for its own addresses."""
        self.depends[item] = other.depends[item]
        self.reached[item] = tuple(name for name in other.reached[item] if name in self.given)
        if item in other.problems:
            self.problems[item] = other.problems[item]
        if item[1] in other.values:
            self.values[item[1]] = other.values[item[1]]

    def found(self, more: Sequence[Problem] = ()) -> KnownProblems:
        """The problems of settings that are given, those of what is made from them, and what plans refuse."""
        problems: list[Problem] = [*more]
        made: list[Made] = []
        for item, found in sorted(self.problems.items(), key=lambda one: (one[0][1].startswith("__"), one[0])):
            reached = self.reached[item]
            if item[1] in self.given:
                problems += found
            elif item[1].startswith("__"):  # a plan
                made += [Made(one, reached, (one.where,)) for one in found]
            else:
                made += [Made(one, reached, (item[1], *reached)) for one in found]
        return KnownProblems(problems, made)


class InventorySettings:
    """The settings of an inventory.

    Args:
        templar: an action's.
        hostvars: of all hosts.
        magic: what Ansible adds to a host's variables in a task.
        basedir: of the playbook.
        as_written: gives a host's variables as they are written; else they are those of `hostvars`, without the play's.
    """

    def __init__(
        self,
        templar: Any,
        hostvars: Any,
        magic: Mapping[str, Any],
        basedir: str,
        as_written: Callable[[str], Mapping[str, Any]] | None = None,
    ) -> None:
        self.hostvars, self.magic, self.basedir = hostvars, magic, basedir
        self._as_written = as_written or hostvars.raw_get
        self.templar = templar.copy_with_new_env(available_variables={})
        self.kept = receipt_inputs.Kept()
        self.roles = {"": receipt_inputs.Role("", tuple(GROUPS)), **ROLES}
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._first: dict[tuple[str, ...], Looked] = {}

    @cached_property
    def specs(self) -> dict[str, dict[str, preflight_specs.Spec]]:
        return preflight_specs.load()

    @cached_property
    def known(self) -> frozenset[str]:
        """The names of all variables of ours."""
        own = {name for role in ROLES.values() for name in (*role.defaults, *role.variables)}
        return frozenset(own | {name for options in self.specs.values() for name in options} - {"role_path"})

    def raw(self, host: str) -> Mapping[str, Any]:
        """The variables of a host as they are written, without its facts."""
        if host not in self._raw:
            self._raw[host] = receipt_inputs.without_facts(self._as_written(host))
        return self._raw[host]

    def look(self, host: str) -> Looked:
        """Look at a host."""
        given = self.raw(host)
        groups = tuple(sorted(RUN_GROUPS & set(given["group_names"])))
        looked = Looked(given)
        like = self._first.get(groups) or next(iter(self._first.values()), None)
        items = self._items(groups)
        if like:
            again = {*self._differing(like, given), ("", "cluster_address")}
            if groups not in self._first:
                again |= {item for item, seen in like.depends.items() if "group_names" in seen}
            for item in items:
                if item in like.depends and item not in again:
                    looked.take(item, like)
            items = [item for item in items if item not in looked.depends]
        self._first.setdefault(groups, looked)
        self._look(looked, items)
        self._own(looked)
        return looked

    def _items(self, groups: tuple[str, ...]) -> list[Item]:
        """The settings of roles that run on hosts of these groups, and the plans of those roles."""

        def make() -> list[Item]:
            run = [name for name, role in self.roles.items() if not name or set(role.groups) & set(groups)]
            return [(name, one) for name in run for one in (*self.specs[name], *_plans(self.roles[name]))]

        return self.kept.once(("items", groups), make)

    def _differing(self, first: Looked, given: Mapping[str, Any]) -> list[Item]:
        """The settings to look at for a host because of what it has otherwise than one that was looked at."""
        other = frozenset(
            name
            for name in {*given, *first.given} - IDENTITY - receipt_inputs.MAGIC
            if not _same(given.get(name, self), first.given.get(name, self))
        )
        items = self.kept.once(("of one", id(first)), lambda: [*self._of_one_host(first)])
        if other:
            key = ("differs", id(first), other)
            items = items + self.kept.once(key, lambda: [one for one, seen in first.depends.items() if seen & other])
        return list(dict.fromkeys(items))

    def _of_one_host(self, first: Looked) -> Iterator[Item]:
        """The settings that the site's own values make otherwise for each host."""
        for item, reached in first.reached.items():
            named = {name for one in reached for name in self.kept.identifiers(first.given[one])}
            if named & IDENTITY or receipt_inputs.is_of_one_host(named):
                yield item

    def _look(self, looked: Looked, items: Sequence[Item]) -> None:
        known: dict[str, Mapping[str, Any]] = {}
        for item in items:
            role = self._role(item[0], looked.given)
            wanted = self._reach(item, role)
            reached, seen = receipt_inputs.search(wanted, role, looked.given, self.kept)
            looked.depends[item], looked.reached[item] = frozenset(seen), tuple(sorted(reached))
            if not reached:
                continue  # its default, which is sound
            if role.name not in known:
                known[role.name] = self._known(role, looked.given)
            judge = self._plan if item[1] in role.variables else self._judge
            found = judge(item, role, looked, known[role.name])
            if found:
                looked.problems[item] = found

    def _role(self, name: str, given: Mapping[str, Any]) -> receipt_inputs.Role:
        """The role without the defaults that the host has otherwise: what they look at plays no part."""
        role = self.roles[name]
        own = frozenset(role.defaults) - set(given)
        defaults = {one: role.defaults[one] for one in role.defaults if one in own}
        return self.kept.once(("role", name, own), lambda: replace(role, defaults=defaults))

    def _reach(self, item: Item, role: receipt_inputs.Role) -> frozenset[str]:
        key = ("reach", item, frozenset(role.defaults))
        return self.kept.once(key, lambda: frozenset(receipt_inputs.reach([item[1]], role)))

    def _known(self, role: receipt_inputs.Role, given: Mapping[str, Any]) -> Mapping[str, Any]:
        folder = str(role.variables.get("role_path", self.basedir))
        search = [folder, f"{folder}/tasks", self.basedir]
        base = {**role.defaults, **given, **role.variables, **self.magic}
        return {**base, "hostvars": self.hostvars, "ansible_search_path": search}

    def _judge(self, item: Item, role: receipt_inputs.Role, looked: Looked, known: Mapping[str, Any]) -> list[Problem]:
        name = item[1]
        makes = any(MAKES.search(text) for one in looked.depends[item] for text in template_names.texts(role.own(one)))
        if makes or receipt_inputs.only_in_a_run(role, [name], looked.given, self.kept):
            return []
        spec, secret = self.specs[item[0]][name], self._is_secret(looked, item)
        try:
            value = self._render(known, known[name])
        except KeyError:  # of no default; what leads to it is not set
            return []
        except Exception as error:
            if name not in looked.given and _refusal(error):
                return self._refusals(item, looked, error)
            looked.values[name] = Broken()
            return [self._problem(looked, item, f"cannot be rendered ({reason(error, secret)})", _remedy(error))]
        found = [*preflight_specs.findings(name, spec, value, secret)]
        if name in looked.given:
            looked.values[name] = Broken() if any(one.unusable for one in found) else value
        return [self._problem(looked, item, one.what, one.remedy, one.spot) for one in found]

    def _plan(self, item: Item, _role: receipt_inputs.Role, looked: Looked, known: Mapping[str, Any]) -> list[Problem]:
        """What a role's own plan refuses. What it cannot know yet is no fault of the inventory's."""
        try:
            value = self._render(known, known[item[1]])
        except Exception as error:
            return self._refusals(item, looked, error)
        problems = [value.get("problem"), *(value.get("problems") or ())] if isinstance(value, Mapping) else []
        return [self._refused(looked, item, one, "") for one in problems if isinstance(one, str) and one]

    def _refusals(self, item: Item, looked: Looked, error: Exception) -> list[Problem]:
        """What the library, or a filter of ours, refuses, if it is that."""
        refused = _refusal(error)
        if isinstance(refused, GpusteadError):
            # A filter may say of which variable it is, in front; Ansible says which filter, in front of that.
            texts = (_message(one) for one in _causes(error))
            said = _OF_ANSIBLE.sub("", next(text for text in texts if str(refused) in text))
            what = said.removesuffix(refused.remedy)
            return [self._refused(looked, item, what.strip(), refused.remedy)]
        return [self._refused(looked, item, line, "") for line in _message(refused).splitlines()] if refused else []

    def _refused(self, looked: Looked, item: Item, what: str, remedy: str) -> Problem:
        """A refusal names the setting itself, as a rule."""
        what = what.rstrip(".")
        first, _colon, rest = what.partition(": ")
        reached = looked.reached[item]
        named = [name for name in reached if re.search(rf"\b{name}\b", f"{what} {remedy}")]
        if not named:  # those that have what is quoted
            quoted = re.findall("'([^']+)'", what)
            named = [name for name in reached if any(one in str(looked.given[name]) for one in quoted)]
        where = place(*(one for name in named for one in written(looked.given, name)))
        if first in reached:
            return Problem(first, rest, remedy, where)
        return Problem(f"role {item[0]}", what, remedy, where)

    def _render(self, known: Mapping[str, Any], value: Any) -> Any:
        self.templar.available_variables = known
        return self.templar.template(value)

    def _own(self, looked: Looked) -> None:
        """Those of the host's variables that are Ansible's, for the checks of addresses and logins."""
        for name in VARIABLES:
            if (name.startswith("ansible_") or name in IDENTITY) and name in looked.given:
                value = looked.given[name]
                if any(template_names.texts([value])):
                    try:
                        value = self._render({**looked.given, "hostvars": self.hostvars}, value)
                    except Exception as error:
                        value = Broken()
                        what = f"cannot be rendered ({reason(error, False)})"
                        looked.reached["", name] = (name,)
                        looked.problems["", name] = [self._problem(looked, ("", name), what, _remedy(error))]
                looked.values[name] = value

    def _is_secret(self, looked: Looked, item: Item) -> bool:
        return any(self._vaulted(looked.given[name]) for name in looked.reached[item])

    def _vaulted(self, value: Any) -> bool:
        return self.kept.once(("vaulted", id(value)), lambda: is_vaulted(value))

    def _problem(self, looked: Looked, item: Item, what: str, remedy: str, spot: Any = None) -> Problem:
        name = item[1]
        if name in looked.given:
            return Problem(name, what, remedy, place(spot, *written(looked.given, name)))
        made = looked.reached[item]
        what = f"{what}, made from {' and '.join(made)}"
        return Problem(name, what, remedy, place(spot, *(one for of in made for one in written(looked.given, of))))

    def secrets(self, looked: Iterable[Looked]) -> Iterator[str]:
        """The texts in all values of hosts that come out of a vault."""
        values = {id(value): (one, value) for one in looked for value in one.given.values() if self._vaulted(value)}
        for one, value in values.values():
            try:
                yield from texts(self._render({**one.given, "hostvars": self.hostvars}, value))
            except AnsibleError:
                continue  # there is nothing to show

    def unreachable(self, looked: Looked) -> list[Problem]:
        """What keeps Ansible from the host, as far as the controller knows."""
        theirs = frozenset(name for name in looked.given if name.startswith("ansible_"))

        def names_unread() -> list[Problem]:
            return [*connections.unread(theirs, reads, self._read(looked))]

        found = [*self.kept.once(("theirs", theirs), names_unread), *connections.absent(looked.values, PLUGINS)]
        return [replace(one, place=place(*written(looked.given, one.where))) for one in found]

    def _read(self, looked: Looked) -> set[str]:
        return {name for value in looked.given.values() for name in self.kept.identifiers(value)}

    def unknown(self, looked: Looked) -> list[Problem]:
        """Variables that look like ours and are none."""
        foreign = looked.values.get(names.FOREIGN)
        of_site = frozenset(name for name in looked.given if receipt_inputs.is_of_site(name)) - self.known
        of_site -= frozenset(map(str, foreign if isinstance(foreign, list) else ()))
        return [
            Problem(found.where, found.what, found.remedy, place(*written(looked.given, found.where)))
            for found in self.kept.once(("unknown", of_site), lambda: [*self._unknown(of_site, looked)])
        ]

    def _unknown(self, of_site: Collection[str], looked: Looked) -> Iterator[Problem]:
        read = self._read(looked)
        prefixes = [f"{role}_" for role in self.specs if role]
        public = [name for name in self.known if not name.startswith("__")]
        beginnings = sorted([*prefixes, "cluster_", "site_"], reverse=True)
        yield from names.unknown_variables(of_site, public, beginnings, read)


@cache
def reads(name: str) -> bool:
    """Whether Ansible reads a variable of this name, or gives it."""
    plugins = (("connection", "ssh"), ("shell", "sh"), ("become", "sudo"), ("become", "su"))
    options = {one for kind, plugin in plugins for one in C.config.get_plugin_vars(kind, plugin)}
    base = {one["name"] for of in C.config.get_configuration_definitions().values() for one in of.get("vars") or ()}
    magic = {one for names in C.MAGIC_VARIABLE_MAPPING.values() for one in names}
    return name in options | base | magic or name in C.COMMON_CONNECTION_VARS


@cache
def _has_connection(name: str) -> bool:
    return connection_loader.find_plugin(name) is not None


@cache
def _has_become(name: str) -> bool:
    return become_loader.find_plugin(name) is not None


PLUGINS: Mapping[str, Callable[[str], bool]] = {
    "ansible_become_method": _has_become,
    "ansible_connection": _has_connection,
}


def _plans(role: receipt_inputs.Role) -> list[str]:
    """The variables of a role that a filter of ours makes, without those that are part of another."""
    made = [name for name, value in role.variables.items() if _PLAN.search(str(value))]
    reach = {name: receipt_inputs.reach([name], role) for name in made}
    for name in list(made):
        if any(reach[name] - {name} <= reach[one] for one in made if one != name):
            made.remove(name)
    return made


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, (str, int, float)) and type(one) is type(other) and one == other)


def written(given: Mapping[str, Any], name: str) -> list[Any]:
    """What tells where a variable stands: what it has; of what Ansible cannot mark (true, nothing) its key.

    The key is that of the first file that has it, which another may overrule.
    """
    return [given.get(name), *(key for key in given if key == name)]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(error: BaseException) -> str:
    return str(getattr(error, "message", error))


def _refusal(error: BaseException) -> BaseException | None:
    """The library's error that is behind this one, or a filter's of ours."""
    causes = [*_causes(error)]
    ours = [one for before, one in zip(causes, causes[1:]) if _OF_ANSIBLE.match(_message(before))]
    of_library = (one for one in causes if isinstance(one, GpusteadError))
    return next(of_library, next((one for one in ours if isinstance(one, AnsibleFilterError)), None))


def reason(error: BaseException, secret: bool) -> str:
    """Why a value cannot be rendered. What a filter says may hold the value: of a secret only names are told."""
    last = [*_causes(error)][-1]
    text = " ".join(str(getattr(error, "message", "") or error).split())
    if is_closed_vault(error):
        return "it is in a vault, and there is no password for that one"
    if secret and "undefined" not in text:
        return "what it says is not shown, as it is secret"
    words = text if isinstance(error, AnsibleError) else f"{type(last).__name__}: {text}"
    return words[:300].rstrip(".")


def is_closed_vault(error: BaseException) -> bool:
    return any(isinstance(one, AnsibleVaultError) or "undecryptable" in str(one) for one in _causes(error))


def _remedy(error: BaseException) -> str:
    if is_closed_vault(error):
        return "Run with --ask-vault-pass or --vault-password-file."
    return "Correct it, or set what it names."
