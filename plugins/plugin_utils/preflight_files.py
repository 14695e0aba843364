# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of the inventory that Ansible did not read, or not as they were meant.

Of a file of hosts that it cannot read Ansible only warns, and goes on without these hosts; of one of variables it does
not say which it was. What is read here is kept by Ansible's loader, and read once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import IGNORED
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Problem
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import did_you_mean, near_groups
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_places import place, relative

YAML = (".yml", ".yaml", ".json")
SECTIONS = ("hosts", "vars", "children")
_NOT_READ = "Correct it there: nothing in this file counts."


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
    homes = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]
    for home in dict.fromkeys([*homes, *folders]):
        found += _variables(loader, os.path.join(home, "group_vars"), groups)
        hosts = {host for members in groups.values() for host in members}
        found += _variables(loader, os.path.join(home, "host_vars"), hosts)
    return list(dict.fromkeys(found))


def clusters(sources: Sequence[str], folders: Collection[str]) -> list[str]:
    """Directories of several clusters that one source has taken together: those below it from which hosts come."""
    for source in (os.path.abspath(one) for one in sources if os.path.isdir(one)):
        below = sorted({folder for folder in folders if folder and f"{folder}/".startswith(f"{source}/")})
        if len(below) > 1:
            return [relative(folder) for folder in below]
    return []


def place_of_group(loader: DataLoader, sources: Sequence[str], name: str) -> str:
    """File and line of a group in the YAML files of an inventory."""

    def keys(content: Any) -> Iterator[Any]:
        for key, inner in content.items() if isinstance(content, Mapping) else ():
            yield key
            yield from keys(inner.get("children") if isinstance(inner, Mapping) else None)

    for path in (os.path.abspath(source) for source in sources if os.path.exists(source)):
        files = [os.path.join(path, entry) for entry in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
        for file in files:
            if file.endswith(YAML) and os.path.isfile(file):
                content = loader.load_from_file(file, cache="all", unsafe=True, trusted_as_template=True)
                found = next((place(key) for key in keys(content) if key == name), "")
                if found:
                    return found
    return ""


def _hosts(loader: DataLoader, path: str) -> Iterator[Problem]:
    if os.path.isdir(path):
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


def _variables_of_hosts(hosts: Mapping[str, Any]) -> Iterator[Problem]:
    for host, variables in hosts.items():
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


def _variables(loader: DataLoader, folder: str, known: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the files of group_vars or host_vars."""
    if not os.path.isdir(folder):
        return
    kind = "host" if folder.endswith("host_vars") else "group"
    for entry in sorted(os.listdir(folder)):
        name, suffix = os.path.splitext(entry)
        name = name if suffix in YAML else entry
        if entry.startswith(".") or entry.endswith("~"):
            continue
        if name in known or name == "all":
            for path in loader.find_vars_files(folder, name):
                yield from _file_of_variables(loader, os.fspath(path))
        elif isinstance(known, Mapping):
            for meant in near_groups({name: [""]}, list(known)).values():
                what = f"there is no {kind} {name}, and nothing reads this file"
                yield Problem(relative(os.path.join(folder, entry)), what, f"Did you mean {meant}?")


def _file_of_variables(loader: DataLoader, path: str) -> Iterator[Problem]:
    try:
        content = loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
    except AnsibleError as error:
        yield _broken(path, error)
        return
    if content is not None and not isinstance(content, Mapping):
        yield Problem(relative(path), "it holds no variables", "Write each as name: value.")


def _broken(path: str, error: AnsibleError) -> Problem:
    words = " ".join(str(error.message).split()).rstrip(".")
    where = place(error.obj) or relative(path)
    where = where if where.startswith(relative(path)) else relative(path)
    if "vault" in words.lower() or "decrypt" in words.lower():
        remedy = "Run with --ask-vault-pass or --vault-password-file, and the right password."
        return Problem(where, "it is encrypted, and there is no password for it", remedy)
    remedy = "Write blanks, no tabs, in front of its lines." if "Tabs" in words else _NOT_READ
    return Problem(where, f"it was not read, {_lower(words.removeprefix('YAML parsing failed: '))}", remedy)


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]
