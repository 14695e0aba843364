"""Which paths of tasks are not root's: what the expressions of roles and playbooks mention, followed through variables.

A path is foreign where it lies below a home, on the share, in a place of an account's on the node, or where a variable
or a result says such a one. Variables are followed through defaults, vars, includes, loops and what is registered.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, TemplateSyntaxError, nodes

ROOT = Path(__file__).parents[2]

# Where others write: homes, runtime directories, the share, its export on the NAS, and the places on a node.
TEXT = re.compile(
    r"(?:^|[\s'\"=:,(])~|/home\b|/run/user\b|/mnt/nas\b|/export\b|/var/lib/gpustead/workspace\b|/users(?:/|$)|/shared\b"
    r"|(?:^|/)\.cluster\b|(?:^|/)\.ssh\b"
)
# The user's own names, whatever they are set to, and attributes (of plans, too) that hold a home or the share.
NAMES = {"cluster_nas_path", "workspace_mounts", "cluster_workspace_mounts"}
ATTRIBUTES = {"home", "nas_path"}
BLOCKS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
_JINJA = Environment(autoescape=True, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])


def strings(value: Any) -> Iterator[str]:
    """All texts within a value of YAML, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def mentions(text: str) -> tuple[set[str], bool]:
    """The variables of a text, and whether it says by itself what is foreign."""
    try:
        with warnings.catch_warnings(action="ignore"):  # regular expressions, in quotes as Jinja has them
            tree = _JINJA.parse(text)
    except TemplateSyntaxError:  # Docker's own braces
        return set(), bool(TEXT.search(text))
    names = {node.name for node in tree.find_all(nodes.Name)}
    said = [node.attr for node in tree.find_all(nodes.Getattr)]
    literal = [str(node.value) for node in tree.find_all(nodes.Const)]
    plain = [node.data for node in tree.find_all(nodes.TemplateData)]
    foreign = bool(ATTRIBUTES.intersection([*said, *literal]) or any(map(TEXT.search, [*literal, *plain])))
    return names, foreign or bool(NAMES & names)


@dataclass(frozen=True)
class Task:
    """A task as it stands, with what it has of its blocks and its play."""

    file: str
    name: str
    module: str
    arguments: Any
    words: Mapping[str, Any]

    @property
    def here(self) -> bool:
        """Whether it is done on the controller."""
        return self.words.get("delegate_to") == "localhost"

    @property
    def definitions(self) -> Iterator[tuple[str, Any]]:
        """What its variables are made of, `item` included."""
        yield from (self.words.get("vars") or {}).items()
        control = self.words.get("loop_control") or {}
        for word, value in self.words.items():
            if word == "loop" or word.startswith("with_"):
                yield control.get("loop_var", "item"), value


def read_tasks(entries: Iterable[Any], file: str, outer: Mapping[str, Any]) -> Iterator[Task]:
    """All tasks of a list, of blocks within blocks too."""
    for entry in entries:
        words = {**outer, **{word: value for word, value in entry.items() if "." not in word and word not in BLOCKS}}
        words["vars"] = {**(outer.get("vars") or {}), **(entry.get("vars") or {})}
        if entry.get("hosts") == "localhost" or entry.get("connection") == "local":
            words["delegate_to"] = "localhost"
        for block in BLOCKS:
            if isinstance(entry.get(block), list):
                yield from read_tasks(entry[block], file, words)
        for module, arguments in entry.items():
            if "." in module:
                yield Task(file, str(entry.get("name", module)), module, arguments, words)


@dataclass
class Scope:
    """A role, or a playbook: its tasks and what its variables are made of."""

    files: list[Path]
    variables: list[Path] = field(default_factory=list)

    @cached_property
    def tasks(self) -> list[Task]:
        found: list[Task] = []
        for path in self.files:
            content = yaml.safe_load(path.read_text())
            if isinstance(content, list):
                found += read_tasks(content, str(path.relative_to(ROOT)), {})
        return found

    @cached_property
    def definitions(self) -> dict[str, list[Any]]:
        """What each name can be: of all tasks together, as an included file sees those of who includes it."""
        known: dict[str, list[Any]] = {}
        for path in self.variables:
            for name, value in (yaml.safe_load(path.read_text()) or {}).items():
                known.setdefault(name, []).append(value)
        for task in self.tasks:
            within = task.module.rpartition(".")[2].startswith(("include_", "import_"))
            for name, value in task.definitions:
                if name != "item" or within:  # that of a loop is its task's, or the included tasks'
                    known.setdefault(name, []).append(value)
            if task.module == "ansible.builtin.set_fact":
                for name, value in task.arguments.items():
                    known.setdefault(name, []).append(value)
            if "register" in task.words:
                # What was found at a foreign path names foreign paths.
                places = [*paths_of(task)] if task.module in PATHS else []
                known.setdefault(task.words["register"], []).append(places)
        return known

    def foreign(self, value: Any, task: Task | None = None) -> bool:
        """Whether a value says a path that is not root's."""
        own = dict(task.definitions) if task else {}
        seen: set[str] = set()
        ahead = [*strings(value)]
        while ahead:
            names, said = mentions(ahead.pop())
            if said:
                return True
            for name in names - seen:
                seen.add(name)
                ahead += strings([own[name]] if name in own else self.definitions.get(name, []))
        return False


# The arguments of modules that are paths on the host. ALL: whatever it is given. Of those with none: ().
ALL = ("*",)
PATHS: dict[str, tuple[str, ...]] = {
    "ansible.builtin.add_host": (),
    "ansible.builtin.apt": ("deb",),
    "ansible.builtin.assemble": ("src", "dest"),
    "ansible.builtin.assert": (),
    "ansible.builtin.blockinfile": ("path", "dest", "name"),
    "ansible.builtin.command": ALL,
    "ansible.builtin.copy": ("dest",),
    "ansible.builtin.deb822_repository": (),
    "ansible.builtin.debug": (),
    "ansible.builtin.fail": (),
    "ansible.builtin.fetch": ("src",),
    "ansible.builtin.file": ("path", "dest", "name", "src"),
    "ansible.builtin.find": ("paths", "path", "name"),
    "ansible.builtin.get_url": ("dest", "tmp_dest"),
    "ansible.builtin.getent": (),
    "ansible.builtin.group": (),
    "ansible.builtin.group_by": (),
    "ansible.builtin.import_playbook": (),
    "ansible.builtin.import_role": (),
    "ansible.builtin.import_tasks": (),
    "ansible.builtin.include_role": (),
    "ansible.builtin.include_tasks": (),
    "ansible.builtin.include_vars": (),
    "ansible.builtin.iptables": (),
    "ansible.builtin.known_hosts": ("path",),
    "ansible.builtin.lineinfile": ("path", "dest", "name"),
    "ansible.builtin.meta": (),
    "ansible.builtin.pause": (),
    "ansible.builtin.ping": (),
    "ansible.builtin.raw": ALL,
    "ansible.builtin.reboot": (),
    "ansible.builtin.replace": ("path", "dest", "name"),
    "ansible.builtin.script": ALL,
    "ansible.builtin.set_fact": (),
    "ansible.builtin.set_stats": (),
    "ansible.builtin.setup": ("fact_path",),
    "ansible.builtin.shell": ALL,
    "ansible.builtin.slurp": ("path", "src"),
    "ansible.builtin.stat": ("path", "dest", "name"),
    "ansible.builtin.systemd_service": (),
    "ansible.builtin.tempfile": ("path",),
    "ansible.builtin.template": ("dest",),
    "ansible.builtin.unarchive": ("src", "dest", "creates"),
    "ansible.builtin.uri": ("dest", "src", "creates", "removes"),
    "ansible.builtin.user": ("home", "ssh_key_file", "skeleton"),
    "ansible.builtin.wait_for": ("path",),
    "ansible.builtin.wait_for_connection": (),
    # It looks the account's home up by itself.
    "ansible.posix.authorized_key": ("user", "path"),
    "ansible.posix.mount": ("path", "name"),
    "ansible.posix.sysctl": ("sysctl_file",),
    "community.crypto.openssh_keypair": ("path",),
    "community.crypto.openssl_csr_pipe": ("privatekey_path",),
    "community.crypto.openssl_privatekey": ("path",),
    "community.crypto.x509_certificate": ("path", "csr_path", "privatekey_path", "ownca_path", "ownca_privatekey_path"),
    "community.crypto.x509_certificate_info": ("path",),
    "community.crypto.x509_certificate_pipe": ("csr_path", "ownca_path", "ownca_privatekey_path"),
    "community.docker.docker_compose_v2": ("project_src", "files", "env_files"),
    "community.docker.docker_container": ("mounts", "volumes", "env_file"),
    "community.docker.docker_container_copy_into": ("path",),
    "community.docker.docker_container_exec": (),
    "community.docker.docker_container_info": (),
    "community.docker.docker_host_info": (),
    "community.docker.docker_image_export": ("path",),
    "community.docker.docker_image_info": (),
    "community.docker.docker_image_load": ("path",),
    "community.docker.docker_image_pull": (),
    "community.docker.docker_image_push": (),
    "community.docker.docker_image_remove": (),
    "community.docker.docker_image_tag": (),
    "community.docker.docker_login": ("config_path",),
    "community.docker.docker_network": (),
    "community.general.modprobe": (),
    "community.general.ufw": (),
}


def paths_of(task: Task) -> Iterator[Any]:
    """What a task gives its module as a path; of a module that is not ours, or not known, all of it."""
    wanted = PATHS.get(task.module, ALL)
    if wanted == ALL or not isinstance(task.arguments, Mapping):
        if wanted:
            yield from (task.arguments, task.words.get("args"))
        return
    given = {**task.arguments, **(task.words.get("args") or {})}
    if task.module == "ansible.builtin.copy" and given.get("remote_src"):
        yield given.get("src")
    if task.module == "ansible.posix.authorized_key":
        yield "/home"
    yield from (given[name] for name in wanted if name in given)


def scopes(roles: Iterable[str], playbooks: Iterable[Path]) -> dict[str, Scope]:
    """Roles by their name, and playbooks each by its own."""
    found = {}
    for role in roles:
        folder = ROOT / "roles" / role
        files = [path for part in ("tasks", "handlers") for path in sorted((folder / part).glob("**/*.yml"))]
        found[role] = Scope(
            files, [path for part in ("defaults", "vars") for path in sorted((folder / part).glob("*.yml"))]
        )
    return {**found, **{str(path.relative_to(ROOT)): Scope([path]) for path in playbooks}}
