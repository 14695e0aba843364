# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role is run with, as digests: a host's receipt holds them, and a change of one makes the role run again.

A role's inputs are found, not listed: every variable whose name stands in its tasks, handlers and templates, and every
variable whose name stands in the value of one of those, the role's own and the host's. They count as they are written:
rendering all of them for each host would cost more than the whole check. What looks beyond itself counts as rendered,
too. At a leaf, a variable of the role's own that meta/receipt.yml lists as `rendered` or `by_host`, the search ends: it
counts as it is rendered, in place of all that is reached through it alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.receipts import ABSENT
from ansible_collections.gpustead.cluster.plugins.plugin_utils.template_names import (
    identifiers,
    texts,
    without_messages,
)

T = TypeVar("T")

COLLECTION = Path(__file__).resolve().parents[2]
NAME = re.compile(r"[A-Za-z_]\w*")
GROUPS = re.compile(r"groups\[['\"](\w+)['\"]\]")
# Of one other host, or of several: map('extract', hostvars) | map(attribute='x').
OF_OTHERS = re.compile(r"hostvars(?:\[[^\]]+\]\.|\)\s*\| map\(attribute=')(\w+)")
USED_COLLECTION = re.compile(r"\b((?:ansible|community)\.(?!builtin)\w+)\.\w+")
# What looks beyond the variable it stands in: the text of it does not tell what it gives.
LOOKS_AROUND = frozenset({"lookup", "lookups", "query", "q", "hostvars", "groups", "group_names"})
# What differs from host to host, or may: a lookup finds variables by names that are made only then.
OF_ONE_HOST = frozenset({"lookup", "query", "q", "inventory_hostname", "inventory_hostname_short", "vars"})
# Above this a file named by a variable (an image's archive) is told by size and time: reading it costs too much.
LARGE = 4 * 1024 * 1024
# Ansible's own variables say how and where it runs, not what; of those named ansible_*, these belong to the inventory.
CONNECTION = frozenset({"ansible_host", "ansible_port"})
MAGIC = frozenset(
    {"environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname"}
    | {"inventory_hostname_short", "omit", "play_hosts", "playbook_dir", "role_name", "role_names", "role_path", "vars"}
)


def digest(value: Any) -> str:
    """A short digest of a value as it is written; a vaulted one counts as its ciphertext."""
    if not isinstance(value, bytes):
        value = json.dumps(value, default=_text, sort_keys=True, skipkeys=False).encode()
    return hashlib.sha256(value).hexdigest()[:24]


def _text(value: Any) -> str:
    return str(getattr(value, "_ciphertext", None) or getattr(value, "_raw", None) or value)


def without_facts(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's variables without its facts, which Ansible shows as variables too: what is, not what should be."""
    facts = variables.get("ansible_facts") or {}
    shown = {"ansible_facts", *facts, *(f"ansible_{name}" for name in facts)} - CONNECTION
    return {name: value for name, value in variables.items() if name not in shown}


def is_of_site(name: str) -> bool:
    """Whether a variable is one of the site's: not Ansible's, not one that a task registered."""
    if name.startswith("ansible_"):
        return name in CONNECTION
    return not name.startswith("__") and name not in MAGIC


@dataclass(frozen=True)
class Role:
    """A role that leaves receipts: what its files say.

    Attributes:
        groups: groups whose hosts it runs on.
        after: roles after which it runs again on the same host.
        files: Jinja expressions for the files on the controller that it is run with.
        defaults, variables: its own variables, which may be rendered.
        rendered: leaves, the same for all hosts or not.
        by_host: leaves that are tables of hosts, {host: value}: each host is run with its own line.
        immaterial: leaves that decide nothing of what a run leaves, and count as nothing.
        current: what must be as the inventory has it now, {kind: subjects}, on the hosts of the table `current_on`.
        reached: the names in its files, and those that its own variables name in turn, up to the leaves.
        parts: digests of its files, by "file <path>".
        reads_groups, reads_of_others: groups whose members it reads, and the variables it reads of other hosts, both
            elsewhere than in leaves.
        reads_own_groups: whether it reads which groups the host is in.
        collections: the collections whose modules it uses.
    """

    name: str
    groups: tuple[str, ...]
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    rendered: tuple[str, ...] = ()
    by_host: tuple[str, ...] = ()
    immaterial: tuple[str, ...] = ()
    current: Mapping[str, Any] = field(default_factory=dict)
    current_on: str = ""
    reached: frozenset[str] = frozenset()
    parts: Mapping[str, str] = field(default_factory=dict)
    reads_groups: tuple[str, ...] = ()
    reads_of_others: tuple[str, ...] = ()
    reads_own_groups: bool = False
    collections: tuple[str, ...] = ()

    @property
    def leaves(self) -> frozenset[str]:
        return frozenset((*self.rendered, *self.by_host, *self.immaterial))

    def own(self, name: str) -> list[Any]:
        """The values that the role itself gives a variable, as written."""
        return [values[name] for values in (self.defaults, self.variables) if name in values]


# argument_specs.yml names all that a role takes, which is no use of it. What lies in files/ is not rendered.
OF_VARIABLES = ("defaults/main.yml", "vars/main.yml", "meta/argument_specs.yml", "meta/main.yml")


def read_role(folder: Path, loader: DataLoader | None = None) -> Role:
    """A role from its files; README, metadata for Galaxy and tests are not part of what it does."""
    loader = loader or DataLoader()
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts
    }

    def load(path: str) -> Any:
        # Trusted: its expressions are rendered.
        return loader.load_from_file(str(folder / path), trusted_as_template=True) or {} if path in files else {}

    receipt, defaults, variables = (load(path) for path in ("meta/receipt.yml", *OF_VARIABLES[:2]))
    rendered, by_host, immaterial = (tuple(receipt.get(kind, ())) for kind in ("rendered", "by_host", "immaterial"))
    current = dict(receipt.pop("current", {}))
    role = Role(
        folder.name,
        tuple(receipt["groups"]),
        defaults=defaults,
        variables=variables,
        rendered=rendered,
        by_host=by_host,
        immaterial=immaterial,
    )
    written = {name: content.decode(errors="replace") for name, content in files.items()}
    everything = "\n".join(written.values())
    seen = {name: words for name, words in written.items() if name not in OF_VARIABLES and name[:6] != "files/"}
    seen["meta/receipt.yml"] = "\n".join(texts([receipt]))
    text = "\n".join(without_messages(words) for words in seen.values())
    reached = reach(NAME.findall(text), role, role.leaves)
    own = [value for name in reached - role.leaves for value in role.own(name)]
    text = "\n".join([text, *texts(own)])
    return replace(
        role,
        after=tuple(receipt.get("after", [])),
        files=tuple(receipt.get("files", [])),
        variables={**variables, "role_path": str(folder)},
        current_on=current.pop("hosts", ""),
        current=current,
        reached=frozenset(reached),
        parts={f"its file {name}": digest(content) for name, content in files.items() if name != "meta/main.yml"},
        reads_groups=tuple(sorted(set(GROUPS.findall(text)))),
        reads_of_others=tuple(sorted(set(filter(is_of_site, OF_OTHERS.findall(text))))),
        reads_own_groups="group_names" in reached,
        collections=tuple(sorted(set(USED_COLLECTION.findall(everything)))),
    )


def reach(names: Iterable[str], role: Role, leaves: Collection[str] = ()) -> set[str]:
    """The names, and all that the values of the role's own among them name in turn; those of leaves are left out."""
    reached: set[str] = set()
    todo = set(names)
    while todo:
        reached |= todo
        todo = identifiers(value for name in todo if name not in leaves for value in role.own(name)) - reached
    return reached


def site_roles(root: Path = COLLECTION) -> dict[str, Role]:
    """The roles that leave receipts, by name."""
    loader = DataLoader()
    folders = [path.parents[1] for path in sorted(root.glob("roles/*/meta/receipt.yml"))]
    return {folder.name: read_role(folder, loader) for folder in folders}


def plugins_digest(root: Path = COLLECTION) -> str:
    """One digest of all plugins and the library: a change there may change what any role does."""
    files = sorted(path for path in root.glob("plugins/**/*") if path.suffix in (".py", ".yml"))
    return digest(b"\0".join(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() for path in files))


def collection_version(name: str) -> str:
    """The version of an installed collection."""
    package = importlib.import_module(f"ansible_collections.{name}")
    manifest = Path(next(iter(package.__path__))) / "MANIFEST.json"
    return str(json.loads(manifest.read_text())["collection_info"]["version"]) if manifest.exists() else "unknown"


def common_inputs(
    roles: Mapping[str, Role],
    groups: Mapping[str, Sequence[str]],
    variables: Mapping[str, Mapping[str, Any]],
    core: str,
) -> dict[str, dict[str, str]]:
    """The inputs that are the same for all hosts, {role: {part: digest}}: code, versions, groups, nodes' addresses.

    Args:
        roles: the roles.
        groups: members of each group of the inventory.
        variables: of every host in a group that a role reads, its variables as written.
        core: version of ansible-core.
    """
    plugins = plugins_digest()
    versions = {
        name: collection_version(name) for name in {name for role in roles.values() for name in role.collections}
    }
    result = {}
    for role in roles.values():
        parts = {**role.parts, "the collection's plugins": plugins, "ansible-core": digest(core)}
        parts.update({f"collection {name}": digest(versions[name]) for name in role.collections})
        for group in role.reads_groups:
            parts[f"group {group}"] = digest(list(groups.get(group, [])))
        for group in groups_of_others(role, roles):
            members = list(groups.get(group, []))
            for name in role.reads_of_others:
                known = {host: variables[host][name] for host in members if name in variables[host]}
                parts[f"variable {name} of the hosts in {group}"] = digest([known, *_closure_of_all(known, variables)])
        result[role.name] = parts
    return result


def groups_of_others(role: Role, roles: Mapping[str, Role]) -> list[str]:
    """The groups whose hosts a role may read variables of: as a leaf may have named a host, all that roles know."""
    known = {group for other in roles.values() for group in (*other.groups, *other.reads_groups)}
    return sorted(known) if role.reads_of_others else []


def _closure_of_all(known: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    for host, value in known.items():
        reached = closure(identifiers([value]), variables[host])
        yield [host, {name: variables[host][name] for name in reached}]


def closure(names: Iterable[str], variables: Mapping[str, Any]) -> set[str]:
    """The variables among `names`, and all that their values name in turn."""
    reached: set[str] = set()
    todo = {name for name in names if name in variables}
    while todo:
        reached |= todo
        named = identifiers(variables[name] for name in todo)
        todo = {name for name in named if name in variables and is_of_site(name.lstrip("_"))} - reached
    return reached


class Kept:
    """What was found out about values: hosts have most of theirs in common, as one object."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, str, frozenset[str]]] = {}
        self._made: dict[Hashable, Any] = {}

    def _of(self, value: Any) -> tuple[Any, str, frozenset[str]]:
        found = self._kept.get(id(value))
        if found is None:
            # With the value, whose number nothing else gets then.
            found = self._kept[id(value)] = (value, digest(value), frozenset(identifiers([value])))
        return found

    def digest(self, value: Any) -> str:
        return self._of(value)[1]

    def identifiers(self, value: Any) -> frozenset[str]:
        return self._of(value)[2]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made for the first host with this key."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])


def search(
    names: Collection[str], role: Role, given: Mapping[str, Any], kept: Kept, leaves: Collection[str] = ()
) -> tuple[set[str], set[str]]:
    """The host's variables that names lead to, by way of the role's own and of the host's; and all names on the way.

    Args:
        names: with all that the role's own variables name in turn, see `reach`.
        leaves: through which nothing is reached.
    """
    reached: set[str] = set()
    seen = set(names)
    todo = {name for name in given if name in names and name not in leaves and is_of_site(name)}
    while todo:
        reached |= todo
        named = reach({found for name in todo for found in kept.identifiers(given[name])}, role, leaves)
        seen |= named
        todo = {
            name for name in named if name in given and name not in leaves and is_of_site(name.lstrip("_"))
        } - reached
    return reached, seen


def is_of_one_host(names: Set[str]) -> bool:
    """Whether what names all these may be rendered otherwise for each host, by more than variables and groups."""
    return bool(names & OF_ONE_HOST) or any(name.startswith("ansible_") for name in names - CONNECTION)


def only_in_a_run(role: Role, names: Iterable[str], given: Mapping[str, Any], kept: Kept) -> list[str]:
    """What of all that names lead to is known while a role runs alone: facts, and results of tasks."""
    named = reach(names, role)
    reached, _second = search(named, role, given, kept)
    theirs = {name for value in reached for name in kept.identifiers(given[value])}
    found = {name for name in named if name.startswith("__") and not role.own(name)}
    found |= {name for name in named if name.startswith("ansible_") and name not in CONNECTION} | (
        named & {"play_hosts"}
    )
    found |= {name for name in theirs if name == "ansible_facts" or (name.startswith("ansible_") and name not in given)}
    return sorted(found)


def leaf_parts(name: str, value: Any) -> dict[str, str]:
    """The digests of a leaf: of each key of a mapping, or of each entry of a list that has a name or an owner.

    A reason says which part has changed, and nothing of its value.
    """
    title = f"variable {name}"
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        return {f"{title} ({key})": digest(part) for key, part in value.items()}
    for key in ("name", "owner"):
        if isinstance(value, list) and value and all(isinstance(entry, Mapping) and key in entry for entry in value):
            names = [str(entry[key]) for entry in value]
            if len(set(names)) == len(names):
                parts = {f"{title} ({part})": digest(entry) for part, entry in zip(names, value)}
                return {**parts, f"order of {title}": digest(names)}
    return {title: digest(value)}


def group_inputs(role: Role, group_names: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Which of `ours`, the groups that roles run on, the host is in: other groups come and go while the site runs."""
    return {"the host's groups": digest(sorted(set(group_names) & set(ours)))} if role.reads_own_groups else {}


def file_parts(paths: Iterable[str]) -> dict[str, str]:
    """The contents of files on the controller."""
    return {f"the contents of {path}": file_digest(Path(path)) for path in sorted(paths)}


def file_digest(path: Path) -> str:
    """A digest of a file or of all files in a directory; where there is none, of that."""
    if path.is_dir():
        return digest(
            [[str(entry.relative_to(path)), file_digest(entry)] for entry in sorted(path.rglob("*")) if entry.is_file()]
        )
    if not path.is_file():
        return ABSENT
    status = path.stat()
    return digest([status.st_size, status.st_mtime_ns]) if status.st_size > LARGE else digest(path.read_bytes())
