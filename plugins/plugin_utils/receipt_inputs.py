# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role is run with, as digests: a host's receipt holds them, and a change of one makes the role run again.

Variables are digested as they are written, not as they are rendered: rendering all of them for each host would cost
more than the whole check. Only what looks beyond itself is rendered, too. A role's inputs are found, not listed:
every variable whose name stands anywhere in the role's files, and every variable whose name stands in the value of
one of those.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.receipts import ABSENT

COLLECTION = Path(__file__).resolve().parents[2]
NAME = re.compile(r"[A-Za-z_]\w*")
TEMPLATE = re.compile(r"{[{%].*?[%}]}", re.DOTALL)
GROUPS = re.compile(r"groups\[['\"](\w+)['\"]\]")
OF_OTHERS = re.compile(r"hostvars\[[^\]]+\]\.(\w+)")
USED_COLLECTION = re.compile(r"\b((?:ansible|community)\.(?!builtin)\w+)\.\w+")
# What looks beyond the variable it stands in: the text of it does not tell what it gives.
LOOKS_AROUND = frozenset({"lookup", "query", "q", "hostvars", "groups", "group_names"})
# What differs from host to host, or may: a lookup finds variables by names that are made only then.
OF_ONE_HOST = (LOOKS_AROUND - {"groups"}) | {"inventory_hostname", "inventory_hostname_short", "vars"}
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
    return {name: value for name, value in variables.items() if name not in facts}


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
        names: the identifiers in its files.
        parts: digests of its files, by "file <path>".
        reads_groups, reads_of_others: groups whose members it reads, and the variables it reads of other hosts.
        reads_own_groups: whether it reads which groups the host is in.
        collections: the collections whose modules it uses.
    """

    name: str
    groups: tuple[str, ...]
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    parts: Mapping[str, str] = field(default_factory=dict)
    reads_groups: tuple[str, ...] = ()
    reads_of_others: tuple[str, ...] = ()
    reads_own_groups: bool = False
    collections: tuple[str, ...] = ()


def read_role(folder: Path) -> Role:
    """A role from its files; README, metadata for Galaxy and tests are not part of what it does."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts
    }
    text = "\n".join(content.decode(errors="replace") for content in files.values())
    names = frozenset(NAME.findall(text))
    receipt = yaml.safe_load(files["meta/receipt.yml"])
    return Role(
        name=folder.name,
        groups=tuple(receipt["groups"]),
        after=tuple(receipt.get("after", [])),
        files=tuple(receipt.get("files", [])),
        names=frozenset(filter(is_of_site, names)),
        parts={f"its file {name}": digest(content) for name, content in files.items() if name != "meta/main.yml"},
        reads_groups=tuple(sorted(set(GROUPS.findall(text)))),
        reads_of_others=tuple(sorted(set(filter(is_of_site, OF_OTHERS.findall(text))))),
        reads_own_groups="group_names" in names,
        collections=tuple(sorted(set(USED_COLLECTION.findall(text)))),
    )


@dataclass(frozen=True)
class Scope:
    """What renders the names of the files that a role is run with: its defaults, its own variables, the names."""

    defaults: Mapping[str, Any]
    variables: Mapping[str, Any]
    files: Sequence[str]


def read_scope(name: str, loader: Any, root: Path = COLLECTION) -> Scope:
    """The scope of a role, by Ansible's own loader (DataLoader): what it gives may be rendered."""
    folder = root / "roles" / name

    def load(path: str) -> Any:
        return loader.load_from_file(str(folder / path), trusted_as_template=True)

    variables = {**load("vars/main.yml"), "role_path": str(folder)}
    return Scope(load("defaults/main.yml"), variables, load("meta/receipt.yml").get("files", []))


def site_roles(root: Path = COLLECTION) -> dict[str, Role]:
    """The roles that leave receipts, by name."""
    return {path.parents[1].name: read_role(path.parents[1]) for path in sorted(root.glob("roles/*/meta/receipt.yml"))}


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
            members = list(groups.get(group, []))
            parts[f"group {group}"] = digest(members)
            for name in role.reads_of_others:
                known = {host: variables[host][name] for host in members if name in variables[host]}
                parts[f"variable {name} of the hosts in {group}"] = digest([known, *_closure_of_all(known, variables)])
        result[role.name] = parts
    return result


def _closure_of_all(known: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    for host, value in known.items():
        reached = closure(identifiers([value]), variables[host])
        yield [host, {name: variables[host][name] for name in reached}]


def identifiers(values: Iterable[Any]) -> set[str]:
    """The identifiers in the templates of values, however deep they lie."""
    found: set[str] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            found.update(name for template in TEMPLATE.findall(value) for name in NAME.findall(template))
        elif isinstance(value, Mapping):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value
    return found


def closure(names: Iterable[str], variables: Mapping[str, Any]) -> set[str]:
    """The variables among `names`, and all that their values name in turn."""
    reached: set[str] = set()
    todo = {name for name in names if name in variables}
    while todo:
        reached |= todo
        named = identifiers(variables[name] for name in todo)
        todo = {name for name in named if name in variables and is_of_site(name.lstrip("_"))} - reached
    return reached


def rendering_key(expressions: Sequence[str], known: Mapping[str, Any]) -> str:
    """A digest of all that rendering depends on: hosts with the same one get the same. Empty: it depends on the host.

    Args:
        expressions: what is rendered.
        known: all variables that it is rendered with, Ansible's own among them.
    """
    reached: set[str] = set()
    todo = identifiers(expressions)
    while todo:
        if todo & OF_ONE_HOST or any(name.startswith("ansible_") for name in todo):
            return ""
        reached |= todo
        todo = identifiers(known[name] for name in todo if name in known) - reached
    return digest([list(expressions), {name: known[name] for name in reached if name in known}])


def variable_inputs(
    role: Role, variables: Mapping[str, Any], render: Callable[[str, Any], Any] = lambda _, value: value
) -> dict[str, str]:
    """The variables of a host that the role names, and those that they name.

    As they are written; where one looks beyond itself (a lookup, another host) also as it is rendered.
    """
    given = without_facts(variables)
    parts = {}
    for name in closure(role.names, given):
        value = given[name]
        rendered = [render(name, value)] if identifiers([value]) & LOOKS_AROUND else []
        parts[f"variable {name}"] = digest([value, *rendered] if rendered else value)
    return parts


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
