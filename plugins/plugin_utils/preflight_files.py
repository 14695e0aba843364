# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of the inventory that Ansible did not read, or not as they were meant.

Of a file of hosts that it cannot read Ansible only warns, and goes on without these hosts; of one of variables it does
not say which it was. What is read here is kept by Ansible's loader, and read once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import IGNORED
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import is_encrypted
from ansible.plugins.inventory import detect_range, expand_hostname_range
from ansible.plugins.loader import inventory_loader
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import GROUPS, Problem
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import (
    SHARED,
    did_you_mean,
    near_groups,
)
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_places import place, relative
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

YAML = (".yml", ".yaml", ".json")
SECTIONS = ("hosts", "vars", "children")
FOLDERS = ("group_vars", "host_vars")
# Suffixes of what editors, people and package managers leave beside a file, and of what a file is made from.
LEFT = (".bak", ".dist", ".example", ".j2", ".md", ".old", ".orig", ".rpmnew", ".rpmsave", ".sample", ".swp")
_ROLES = (path.parents[1].name for path in COLLECTION.glob("roles/*/meta/argument_specs.yml"))
# With which only settings of ours begin.
PREFIXES = tuple({f"{one}_" for one in (*_ROLES, "cluster")} - {*SHARED})
_NOT_READ = "nothing in this file counts."


def listed(problems: Sequence[Problem]) -> str:
    """What a person reads of them."""
    return "\n- ".join([f"{len(problems)} to correct, nothing changed:", *map(str, problems)]) if problems else ""


def unread(
    loader: DataLoader, sources: Sequence[str], groups: Mapping[str, Sequence[str]], folders: Sequence[str] = ()
) -> list[Problem]:
    """What is wrong with the files of an inventory.

    Args:
        loader: Ansible's.
        sources: what -i names.
        groups: those of the inventory, with their hosts, as far as they were read.
        folders: further ones that have group_vars and host_vars, as that of the playbook.
    """
    # A list of hosts has a comma in it.
    paths = [os.path.abspath(source) for source in sources if "," not in source]
    found = [problem for path in paths for problem in _hosts(loader, path)]
    for source in sources:
        if "," in source and any(os.path.exists(part) for part in source.split(",") if part):
            what = f"{source!r} has a comma, and Ansible takes it for a list of hosts"
            found.append(Problem("inventory", what, "Give each directory or file an -i of its own."))
    homes = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]
    for home in dict.fromkeys([*homes, *folders]):
        found += _folders(home)
        found += _variables(loader, os.path.join(home, "group_vars"), groups, home in homes)
        hosts = {host for members in groups.values() for host in members}
        found += _variables(loader, os.path.join(home, "host_vars"), dict.fromkeys(hosts, ()), home in homes)
    found += merged(loader, sources, {host for group in GROUPS for host in groups.get(group, ())})
    return list(dict.fromkeys(found))


def merged(
    loader: DataLoader, sources: Sequence[str], hosts: Set[str], folders: Collection[str] = ()
) -> Iterator[Problem]:
    """That one source takes several clusters together, or a cluster without its variables.

    Args:
        loader: Ansible's.
        sources: what -i names.
        hosts: those in groups of ours.
        folders: from which they come, where that is known: those in which each stood first. The files have the others.
    """
    for source in (os.path.abspath(one) for one in sources if os.path.isdir(one)):
        files = [*_files(source)]
        deeper = any(os.path.dirname(file) != source for file in files)
        named = {os.path.dirname(file) for file in files if deeper and not hosts.isdisjoint(_names(loader, file))}
        below = sorted(named | {folder for folder in folders if f"{folder}/".startswith(f"{source}/")})
        there = [relative(folder) for folder in below]
        unread = [name for folder in below for name in FOLDERS if os.path.isdir(os.path.join(folder, name))]
        if len(below) > 1:
            what = f"one -i takes the hosts of {' and '.join(there)} as one cluster"
            remedy = f"Give the directory of one, such as -i {there[-1]}"
            yield Problem("inventory", what, f"{remedy}; parts of one cluster each by an -i of their own.")
        elif unread and below != [source]:
            what = f"Ansible reads no {' and no '.join(unread)} in {there[0]}, as -i names a directory above it"
            yield Problem("inventory", what, f"Give the directory of the cluster itself: -i {there[0]}.")


def _files(path: str) -> Iterator[str]:
    """Those that Ansible takes for parts of an inventory."""
    if not os.path.isdir(path):
        yield path
        return
    for name in sorted(os.listdir(path)):
        if not IGNORED.search(os.fsencode(name)):
            yield from _files(os.path.join(path, name))


def _names(loader: DataLoader, path: str) -> set[str]:
    """The hosts in a file; of a program, or of one that cannot be read, nobody knows."""
    if not path.endswith(YAML) and os.access(path, os.X_OK):
        return set()
    for kind in ("yaml",) if path.endswith(YAML) else ("yaml", "ini"):
        data = InventoryData()
        try:
            inventory_loader.get(f"ansible.builtin.{kind}").parse(data, loader, path)
        except AnsibleError:
            continue
        return set(data.hosts)
    return set()


def place_of_group(loader: DataLoader, sources: Sequence[str], name: str) -> str:
    """File and line of a group, or of a host, in the YAML files of an inventory."""

    def keys(content: Any) -> Iterator[Any]:
        for key, inner in content.items() if isinstance(content, Mapping) else ():
            yield key
            if isinstance(inner, Mapping):
                yield from inner.get("hosts") or ()
                yield from keys(inner.get("children"))

    for path in (os.path.abspath(source) for source in sources if os.path.exists(source)):
        files = [os.path.join(path, entry) for entry in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
        for file in files:
            if file.endswith(YAML) and os.path.isfile(file):
                content = loader.load_from_file(file, cache="all", unsafe=True, trusted_as_template=True)
                found = next((place(key) for key in keys(content) if key == name), "")
                if found:
                    return found
    return ""


def _folders(home: str) -> Iterator[Problem]:
    """Directories of variables whose names have a slip of the pen: Ansible takes them for more inventories."""
    for name in sorted(os.listdir(home)) if os.path.isdir(home) else ():
        plain = re.sub("[^a-z]", "", name.lower()).replace("groups", "group").replace("hosts", "host")
        meant = {"groupvars": "group_vars", "groupvar": "group_vars", "hostvars": "host_vars", "hostvar": "host_vars"}
        if name not in FOLDERS and plain in meant and os.path.isdir(os.path.join(home, name)):
            what = "Ansible reads no variables from a directory of this name"
            yield Problem(relative(os.path.join(home, name)), what, f"Did you mean {meant[plain]}?")


def _hosts(loader: DataLoader, path: str) -> Iterator[Problem]:
    if os.path.isdir(path):
        if any(_folders(os.path.dirname(path))) and os.path.basename(path) not in FOLDERS:
            return  # it is told what it is
        for name in sorted(os.listdir(path)):
            if not IGNORED.search(os.fsencode(name)):
                yield from _hosts(loader, os.path.join(path, name))
    elif not os.path.exists(path):
        yield Problem(relative(path), "there is no such inventory", "Give the directory of a cluster with -i.")
    elif path.endswith(YAML):
        yield from _yaml(loader, path)
    elif not os.access(path, os.X_OK):
        yield from _ini(loader, path)


def _yaml(loader: DataLoader, path: str) -> Iterator[Problem]:
    try:
        content = loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
    except AnsibleError as error:
        yield _broken(path, error)
        return
    if content is None or (isinstance(content, Mapping) and content.get("plugin")):
        return
    if not isinstance(content, Mapping):
        yield Problem(relative(path), "it holds no groups", "Write group names, below each hosts, children or vars.")
        return
    yield from _repeated(path)
    yield from _groups(content, path)


def _groups(groups: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for group, content in groups.items():
        where = place(group) or relative(path)
        if content is not None and not isinstance(content, Mapping):
            yield Problem(where, f"group {group} is no dictionary", "Write hosts, children or vars below it.")
            continue
        for key, section in (content or {}).items():
            there = place(key) or where
            if key not in SECTIONS:
                what = f"group {group} has the key '{key}', and Ansible reads {', '.join(SECTIONS)} alone"
                yield Problem(there, what, did_you_mean(str(key), SECTIONS, "Variables go below vars."))
            elif section is not None and not isinstance(section, (Mapping, str)):
                form = {"hosts": "gpu01:", "children": "gpu_nodes:", "vars": "name: value"}[key]
                what = f"{key} of group {group} is no dictionary, and nothing of this file is read"
                yield Problem(there, what, f"Write each as a key, '{form}', without a dash.")
            elif key == "children" and isinstance(section, Mapping):
                yield from _groups(section, path)
            elif key == "hosts" and isinstance(section, Mapping):
                yield from _variables_of_hosts(section)


def _repeated(path: str) -> Iterator[Problem]:
    """Keys that stand twice in one mapping: the last one counts, and Ansible goes on."""
    with open(path, "rb") as file:
        text = file.read()
    if is_encrypted(text):
        return
    todo = [yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    while todo:
        node = todo.pop()
        if isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                if name and name != "<<" and name in first:
                    what = f"{name} stands here again, after line {first[name]}, and only the last one counts"
                    yield Problem(f"{relative(path)}:{line}", what, "Make one of them, or take one away.")
                first.setdefault(name, line)
                todo.append(value)
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def _range(host: str) -> str:
    """Why names with brackets are none; empty where they are, or have none."""
    if "[" not in host:
        return ""
    if re.fullmatch(r"\[[0-9a-fA-F:.]+\]", host):
        return "Give the host a name, and write the address, without brackets, as ansible_host."
    try:
        if detect_range(host) and all(expand_hostname_range(host)):
            return ""
    except (AnsibleError, ValueError):
        pass
    return "Write the first and the last with a colon and with as many digits, as gpu[01:08]."


def _variables_of_hosts(hosts: Mapping[str, Any]) -> Iterator[Problem]:
    for host, variables in hosts.items():
        remedy = _range(str(host))
        if remedy:
            yield Problem(place(host) or str(host), f"{host} is no name of a host and no range of names", remedy)
        if variables is not None and not isinstance(variables, Mapping):
            what = f"what stands behind host {host} is no dictionary"
            yield Problem(place(host) or str(host), what, "Write its variables below it, as name: value.")


def _ini(loader: DataLoader, path: str) -> Iterator[Problem]:
    try:
        content = loader.load_from_file(path, cache="none", trusted_as_template=True)
    except AnsibleError:
        content = None
    if isinstance(content, Mapping):
        yield from _groups(content, path)
        return
    plugin = inventory_loader.get("ansible.builtin.ini")
    try:
        plugin.parse(InventoryData(), loader, path)
    except AnsibleError as error:
        yield _broken(path, error)


def _variables(
    loader: DataLoader, folder: str, known: Mapping[str, Sequence[str]], of_inventory: bool
) -> Iterator[Problem]:
    """What is wrong with the files of group_vars or host_vars.

    Args:
        known: names of groups or of hosts.
        of_inventory: they are the inventory's own, not those of a playbook, which may have several.
    """
    if not os.path.isdir(folder):
        return
    kind = "host" if folder.endswith("host_vars") else "group"
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        name, suffix = os.path.splitext(entry)
        name = name if suffix in YAML else entry
        if entry.startswith(".") or entry.endswith("~") or suffix in LEFT:
            continue
        if name in known or name == "all":
            yield from _unread_names(path)
            for file in loader.find_vars_files(folder, name):
                yield from _file_of_variables(loader, os.fspath(file))
            continue
        meant = near_groups({name: [""]}, list(known)) if kind == "group" else _near_hosts(name, known)
        for one in meant.values():
            what = f"there is no {kind} {name}, and nothing reads this file"
            yield Problem(relative(path), what, f"Did you mean {one}?")
        if not meant and _begins(entry, [*known, "all"]):
            yield Problem(
                relative(path), "nothing reads a file of this name", f"Name it {_begins(entry, [*known, 'all'])}.yml."
            )
        elif not meant and of_inventory and kind == "group" and name not in GROUPS:
            ours = _settings(loader, folder, name)
            what = f"there is no group {name}, and nothing reads what stands here, such as {ours}"
            if ours:
                yield Problem(
                    relative(path), what, "Put the hosts into a group of this name, or name the file as theirs."
                )


def _begins(entry: str, known: Collection[str]) -> str:
    """The group or host that a file is named for, where its suffix is none that Ansible reads."""
    stem = entry.removesuffix(".txt")
    stem = stem.rsplit(".", 1)[0] if "." in stem else ("" if stem == entry else stem)
    return stem if stem in known else ""


def _unread_names(path: str) -> Iterator[Problem]:
    """Files in a directory of variables that Ansible passes over."""
    for entry in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        suffix = os.path.splitext(entry)[1]
        if suffix and suffix not in (*YAML, *LEFT) and not entry.startswith(".") and not entry.endswith("~"):
            what = "nothing reads a file of this name"
            yield Problem(relative(os.path.join(path, entry)), what, "Let its name end in .yml, or move it elsewhere.")


def _near_hosts(name: str, hosts: Collection[str]) -> dict[str, str]:
    """The host that was meant: one whose name has other capitals, zeros, dashes or a domain. Those of hosts that have
    gone may stay."""
    found = next((one for one in hosts if _plain(one) == _plain(name)), "")
    return {name: found} if found else {}


def _plain(host: str) -> str:
    return re.sub(r"0+(?=\d)|[_-]", "", host.lower().split(".")[0])


def _settings(loader: DataLoader, folder: str, name: str) -> str:
    """A setting of ours in files of variables."""
    for file in loader.find_vars_files(folder, name):
        try:
            content = loader.load_from_file(os.fspath(file), cache="all", unsafe=True, trusted_as_template=True)
        except AnsibleError:
            continue
        for key in content if isinstance(content, Mapping) else ():
            if str(key).startswith(PREFIXES):
                return str(key)
    return ""


def _file_of_variables(loader: DataLoader, path: str) -> Iterator[Problem]:
    try:
        content = loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
    except AnsibleError as error:
        yield _broken(path, error)
        return
    if content is not None and not isinstance(content, Mapping):
        yield Problem(relative(path), "it holds no variables", "Write each as name: value.")
    else:
        yield from _repeated(path)


def _broken(path: str, error: AnsibleError) -> Problem:
    words = " ".join(str(error.message).split()).rstrip(".")
    where = place(error.obj) or relative(path)
    where = where if where.startswith(relative(path)) else relative(path)
    if "vault" in words.lower() or "decrypt" in words.lower():
        remedy = "Run with --ask-vault-pass or --vault-password-file, and the right password."
        return Problem(where, "it is encrypted, and there is no password for it", remedy)
    if "codec" in words:
        return Problem(where, "it is no text in UTF-8", f"Save it as UTF-8: {_NOT_READ}")
    remedy = "Write blanks, no tabs, in front of its lines." if "Tabs" in words else f"Correct it there: {_NOT_READ}"
    return Problem(where, f"it was not read, {_lower(words.removeprefix('YAML parsing failed: '))}", remedy)


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]
