# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An inventory as preflight reads it: variables with their types, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import masked

# What may hold a password is never shown.
SECRET = ("cluster_ca_passphrase", "cluster_proxy_env", "cluster_users")
_KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "a dictionary"}


@dataclass(frozen=True)
class Problem:
    """The place (a variable, a group, a host), the value that is wrong there, and what to do."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}. {self.remedy}".split())


@dataclass(frozen=True)
class Broken:
    """A value that could not be rendered."""

    reason: str


@dataclass(frozen=True)
class Site:
    """An inventory: groups, and of each host those of VARIABLES that are set; `read` opens files of the controller."""

    groups: Mapping[str, Sequence[str]]
    hosts: Mapping[str, Mapping[str, Any]]
    read: Callable[[str], str]

    def members(self, *groups: str) -> list[str]:
        return list(dict.fromkeys(host for group in groups for host in self.groups.get(group, ())))


def _shown(name: str, value: Any) -> str:
    return f"of type {type(value).__name__} (not shown)" if name in SECRET else masked(repr(value))


@dataclass
class HostVariables:
    """One host's variables, taken with their types, and what was wrong with them."""

    name: str
    values: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, where: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(where, what, remedy))

    def get(self, name: str, kind: type, default: Any) -> Any:
        value = self.values.get(name)
        if isinstance(value, Broken):
            self.refuse(name, f"cannot be rendered ({value.reason})", "Correct it in the inventory.")
        elif value is not None and not isinstance(value, kind):
            self.refuse(name, f"is {_shown(name, value)}, not {_KINDS[kind]}", f"Write it as {_KINDS[kind]}.")
        elif value is not None:
            return value
        return default

    def ok(self, name: str) -> bool:
        """Whether the value is none of those that `get` complains about."""
        return all(problem.where != name for problem in self.problems)

    def dicts(self, name: str) -> list[Mapping[str, Any]]:
        entries = self.get(name, list, [])
        for entry in entries:
            if not isinstance(entry, Mapping):
                shown = masked(repr(entry)) if isinstance(entry, str) else _shown(name, entry)
                self.refuse(name, f"the entry {shown} is not a dictionary", "Write each entry as {key: value}.")
        return [entry for entry in entries if isinstance(entry, Mapping)]


def whole_number(value: Any) -> int | None:
    """An id or a port, which an INI inventory or the command line gives as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return int(value)
    return None
