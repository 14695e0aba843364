# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An inventory as preflight reads it: variables that are as their specs want them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The groups that roles run on, and what to do where one that is wanted has no host.
GROUPS = {
    "gpu_nodes": "Put the GPU servers into it.",
    "nas_server": "Put the server of the share into it.",
    "registry": "Put one into it, or set cluster_registry: several nodes pull the image from there.",
    "registry_caches": "Put the hosts into it that are to keep images for others.",
}


@dataclass(frozen=True)
class Problem:
    """What has the problem (a variable, a group, a host), the value that is wrong there, and what to do.

    Attributes:
        place: file and line, where that is known; the same problem at two places is one.
    """

    where: str
    what: str
    remedy: str
    place: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = f"{self.where} ({self.place})" if self.place else self.where
        return " ".join(f"{where}: {self.what}. {self.remedy}".split())


@dataclass(frozen=True)
class Broken:
    """A value that could not be rendered, or that is not of its kind: there is a problem about it already."""


@dataclass(frozen=True)
class Made:
    """A problem of something that is made from variables. Where one of these has a problem, it only follows from that.

    Attributes:
        of: the variables.
        covers: those of which nothing more needs to be said.
    """

    problem: Problem
    of: Collection[str]
    covers: Collection[str]


@dataclass(frozen=True)
class KnownProblems:
    """What was found out about a host before, from the specs of its variables.

    Attributes:
        problems: of these.
        more: of what is made from them.
    """

    problems: Sequence[Problem] = ()
    more: Sequence[Made] = ()


@dataclass(frozen=True)
class Site:
    """An inventory.

    Attributes:
        groups: their hosts.
        hosts: of each host the variables that are set, rendered.
        read: opens files of the controller.
        found: what is known to be wrong with a host.
        place: file and line of a host's variable.
    """

    groups: Mapping[str, Sequence[str]]
    hosts: Mapping[str, Mapping[str, Any]]
    read: Callable[[str], str]
    found: Mapping[str, KnownProblems] = field(default_factory=dict)
    place: Callable[[str, str], str] = lambda _host, _variable: ""

    def members(self, *groups: str) -> list[str]:
        return list(dict.fromkeys(host for group in groups for host in self.groups.get(group, ())))


@dataclass
class HostVariables:
    """One host's variables, without those that are Broken, and what is wrong with them.

    Attributes:
        refused: variables of which a problem is known already.
    """

    name: str
    values: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)
    refused: frozenset[str] = frozenset()

    def refuse(self, where: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(where, what, remedy))

    def get(self, name: str, kind: type, default: Any) -> Any:
        """The value, where it is of its kind. Where it is not, its spec has it."""
        value = self.values.get(name)
        return value if isinstance(value, kind) else default

    def ok(self, name: str) -> bool:
        """Whether nothing is known to be wrong with a variable."""
        return name not in self.refused and all(problem.where != name for problem in self.problems)

    def dicts(self, name: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self.get(name, list, []) if isinstance(entry, Mapping)]


def no_host(group: str) -> Problem:
    return Problem(group, "the inventory has no host in this group", GROUPS[group])


def whole_number(value: Any) -> int | None:
    """An id or a port, which an INI inventory or the command line gives as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return int(value)
    return None
