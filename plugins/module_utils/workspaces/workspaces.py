# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The workspaces of a node, from the inventory: whose, where, with which ports; and what is wrong with it."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_cpuset import parse_list
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import owner_of, setting

PROJECT = "gpustead-workspace"
UNITS = "/etc/systemd/system"
# A name of compose's, and of Docker's for a repository of images. Neither takes capital letters.
_PROJECT = re.compile(r"[a-z0-9_-]+\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*\Z")
PROFILES = ("server", "local")
PORTS = services.ports()
PORT_RANGE = "19000:19999"
SERVICES = tuple(PORTS)
NEAR = "near"
KEYS = ("owner", "profile", "ports", "gpus", "cpus", "memory", "accounts", "sudo", "limits", "volumes", "publish")
LIMITS = ("memory", "cpus", "pids")
# Docker has a process for each port that it publishes.
MOST_PUBLISHED = 100
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_VOLUME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_MEMORY = re.compile(r"\d+(\.\d+)?[bkmg]?b?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class WorkspaceAccount:
    """`ssh_keys`: the public keys with which it logs in."""

    name: str
    uid: int
    gid: int
    ssh_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workspace:
    """One compose project.

    Attributes:
        accounts: who may log in by SSH; the owner is the first one.
        project, directory: of compose.
        profile: server or local.
        ports: port on the node of each service.
        gpus: positions or UUIDs; None: all.
        cpus: CPUs in the kernel's list syntax, `near` for those near its GPUs, or empty.
        memory: limit of each container, as compose writes it, or empty.
        limits: of all its containers together: `memory` as compose writes it, `cpus`, also fractions, `pids`.
        volumes: path in the containers of each of its named volumes.
        published: further ports that its ssh container publishes under the same numbers.
        sudo: whether its owner becomes root in the containers, and so, with a shell on the node, root there.
    """

    owner: str
    accounts: tuple[WorkspaceAccount, ...]
    project: str
    directory: str
    profile: str
    ports: Mapping[str, int]
    gpus: tuple[Any, ...] | None = None
    cpus: str = ""
    memory: str = ""
    sudo: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    published: tuple[int, ...] = ()

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Workspace:
        """One from what `described` made of it."""
        known = {one.name: raw[one.name] for one in fields(cls)}
        known["published"] = tuple(known["published"])
        keys = [one.name for one in fields(WorkspaceAccount)]
        accounts = tuple(WorkspaceAccount(**{key: account[key] for key in keys}) for account in raw["accounts"])
        return cls(**{**known, "accounts": accounts})

    @property
    def account(self) -> WorkspaceAccount:
        """The owner's."""
        return self.accounts[0]

    @property
    def all_ports(self) -> list[tuple[str, int]]:
        """(service, port) of all that it publishes on the node."""
        return [*self.ports.items(), *(("publish", port) for port in self.published)]

    @property
    def directories(self) -> tuple[str, ...]:
        """Root's, those above before those in them. Only those of others than the cluster's owner lie in users/."""
        above = () if self.project == PROJECT else (posixpath.dirname(self.directory),)
        return (*above, self.directory, f"{self.directory}/ssh", f"{self.directory}/ssh/authorized_keys.d")

    @property
    def own_image(self) -> str:
        """What its owner builds on top of the node's image, see the Makefile of role workspace."""
        return f"gpustead-local/{_lowered(self.owner, _REPOSITORY)}"

    @property
    def host_key(self) -> str:
        """That of its SSH service."""
        return f"{self.directory}/ssh/ssh_host_ed25519_key"

    @property
    def slice(self) -> str:
        """The systemd slice that holds all its containers, or empty. Dashes in its name would nest it."""
        return f"gpustead_{self.account.uid}.slice" if self.limits else ""

    @property
    def slice_unit(self) -> str:
        """What that is."""
        values = {
            "MemoryMax": str(memory_bytes(self.limits["memory"])) if "memory" in self.limits else "",
            "CPUQuota": f"{round(float(self.limits['cpus']) * 100)}%" if "cpus" in self.limits else "",
            "TasksMax": self.limits.get("pids", ""),
        }
        unit = ["# Written by role workspace: all containers of one workspace.", "[Unit]"]
        unit += [f"Description=Workspace of {self.owner}", "", "[Slice]"]
        return "\n".join([*unit, *(f"{name}={value}" for name, value in values.items() if value), ""])

    @property
    def files(self) -> tuple[str, ...]:
        """Root's directories and files on the node, without the host key."""
        *above, ssh, logins = self.directories
        compose = (f"{self.directory}/compose.yml", f"{self.directory}/compose.local.yml")
        unit = (f"{UNITS}/{self.slice}",) if self.slice else ()
        return (*above, *compose, ssh, logins, *(f"{logins}/{account.name}" for account in self.accounts), *unit)

    @property
    def compose_files(self) -> tuple[str, ...]:
        """Names of those that are used with its profile."""
        return ("compose.yml", *(["compose.local.yml"] if self.profile == "local" else []))

    def described(self) -> dict[str, Any]:
        """All of it in plain values."""
        derived = ("directories", "host_key", "files", "compose_files", "own_image", "slice")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True)
class Defaults:
    """What role workspace knows besides its instances: `users` and `owner` of the cluster, and its defaults."""

    users: Sequence[Mapping[str, Any]]
    owner: str
    ports: Mapping[str, Any]
    port_range: str
    profile: str = "server"
    directory: str = "/etc/gpustead/workspace"
    sudo: bool = False


def defaults_of(variables: Mapping[str, Any]) -> Defaults:
    """Those of a host, from its variables."""
    range_of_all = variables.get("cluster_workspace_port_range") or PORT_RANGE
    return Defaults(
        users=list(variables.get("cluster_users") or []),
        owner=str(variables.get("workspace_owner") or owner_of(variables)),
        ports=services.with_usual(variables.get("workspace_ports") or {}),
        port_range=str(variables.get("workspace_port_range") or range_of_all),
        profile=str(variables.get("workspace_profile") or "server"),
        directory=f"{setting(variables, 'cluster_config_dir')}/workspace",
    )


def of_host(variables: Mapping[str, Any], user: str = "") -> list[Workspace]:
    """The workspaces of a host, from its variables. `user`: those in which it has an account, the own one first.

    Raises:
        GpusteadError: see `plan`.
    """
    found = plan(variables.get("workspace_instances") or [], defaults_of(variables))
    if not user:
        return found
    theirs = [one for one in found if user in [account.name for account in one.accounts]]
    return sorted(theirs, key=lambda one: one.owner != user)


@dataclass
class Survey:
    """The workspaces as far as they could be understood, and what is wrong with their declaration."""

    workspaces: list[Workspace] = field(default_factory=list)
    errors: list[GpusteadError] = field(default_factory=list)

    def refuse(self, what: str, expected: str, remedy: str) -> None:
        self.errors.append(GpusteadError(what, expected, remedy))


def plan(declared: Sequence[Any], defaults: Defaults) -> list[Workspace]:
    """The workspaces of a node; none declared means one, that of the cluster's owner.

    Raises:
        GpusteadError: the first thing that is wrong with the declaration.
    """
    found = survey(declared, defaults)
    for error in [*found.errors, *_clashes(found.workspaces)]:
        raise error
    return found.workspaces


def survey(declared: Sequence[Any], defaults: Defaults) -> Survey:
    """The same with all errors at once, but for ports that several services have: preflight knows more of the host."""
    found = Survey()
    known = {user["name"]: user for user in defaults.users if isinstance(user, Mapping) and "name" in user}
    seen: set[str] = set()
    for entry in declared or [{"owner": defaults.owner}]:
        if not isinstance(entry, Mapping) or set(entry) - set(KEYS):
            words = ", ".join(map(str, set(entry) - set(KEYS))) if isinstance(entry, Mapping) else repr(entry)
            found.refuse(f"an entry has {words}", f"a dictionary of {', '.join(KEYS)}", "Correct the entry.")
            continue
        owner = str(entry.get("owner", ""))
        if owner in seen:
            found.refuse(f"{owner} owns two of them", "one workspace for each account", "Keep one of them.")
            continue
        seen.add(owner)
        _read(entry, owner, known, defaults, found)
    return found


def _read(entry: Mapping[str, Any], owner: str, known: Mapping[str, Any], defaults: Defaults, found: Survey) -> None:
    before = len(found.errors)
    names = [owner, *_list(entry, "accounts", owner, found)]
    for name in names:
        if name not in known:
            others = ", ".join(known) or "none"
            found.refuse(f"{name!r} is no account", f"one of cluster_users ({others})", "Add it there with its uid.")
    if len(set(names)) < len(names):
        found.refuse(
            f"accounts of {owner} are {', '.join(names[1:])}", "each once, without the owner", "Leave out the others."
        )
    profile = entry.get("profile", defaults.profile)
    if profile not in PROFILES:
        found.refuse(f"the profile of {owner} is {profile!r}", f"one of {', '.join(PROFILES)}", "Choose one.")
    cpus, memory = str(entry.get("cpus") or ""), str(entry.get("memory") or "")
    try:
        parse_list("" if cpus == NEAR else cpus)
    except GpusteadError as error:
        found.refuse(f"the cpus of {owner} are {cpus!r}", f"{NEAR}, or {error.expected}", error.remedy)
    if memory and not _MEMORY.match(memory):
        found.refuse(f"the memory of {owner} is {memory!r}", "a size such as 64gb", "Write it so.")
    sudo = entry.get("sudo", defaults.sudo)
    if not isinstance(sudo, bool):
        found.refuse(f"sudo of {owner} is {sudo!r}", "true or false", "Write it so, without quotes.")
    limits, volumes = _limits(entry, owner, found), _volumes(entry, owner, found)
    published = _further_ports(entry, owner, defaults, found)
    gpus = _list(entry, "gpus", owner, found) if entry.get("gpus") is not None else None
    if len(found.errors) == before:
        ports = _ports(entry, owner, int(known[owner]["uid"]), defaults, found)
        ours = owner == defaults.owner
        found.workspaces.append(
            Workspace(
                owner=owner,
                accounts=tuple(_account(known[name]) for name in names),
                # That of the cluster's owner was there before there could be others. No account's name can meet a
                # file of its directory.
                project=PROJECT if ours else f"{PROJECT}-{_lowered(owner, _PROJECT)}",
                directory=defaults.directory if ours else f"{defaults.directory}/users/{owner}",
                profile=profile,
                ports=ports,
                gpus=None if gpus is None else tuple(gpus),
                cpus=cpus,
                memory=memory,
                sudo=sudo,
                limits=limits,
                volumes=volumes,
                published=published,
            )
        )


def memory_bytes(text: str) -> int:
    """Bytes of a size as compose writes it, such as 64gb."""
    number, unit = text.lower().rstrip("b"), ""
    if number[-1] in "kmg":
        number, unit = number[:-1], number[-1]
    return int(float(number) * _UNITS[unit])


def _limits(entry: Mapping[str, Any], owner: str, found: Survey) -> dict[str, str]:
    given = entry.get("limits") or {}
    limits = (
        {str(name): str(value) for name, value in given.items()} if isinstance(given, Mapping) else {"": str(given)}
    )
    sound = {
        "memory": bool(_MEMORY.match(limits.get("memory", "1g"))),
        "cpus": bool(re.fullmatch(r"\d{1,4}(\.\d{1,2})?", limits.get("cpus", "1")))
        and float(limits.get("cpus", 1)) > 0,
        "pids": bool(re.fullmatch(r"[1-9]\d{0,6}", limits.get("pids", "1"))),
    }
    if set(limits) - set(LIMITS) or not all(sound.values()):
        expected = "memory such as 64gb, cpus such as 7.5, pids such as 4096"
        found.refuse(f"the limits of {owner} are {given!r}", expected, "Correct them.")
    return {name: limits[name] for name in LIMITS if name in limits}


def _volumes(entry: Mapping[str, Any], owner: str, found: Survey) -> dict[str, str]:
    given = _list(entry, "volumes", owner, found)
    volumes = {str(one.get("name")): str(one.get("path")) for one in given if isinstance(one, Mapping)}
    sound = all(_VOLUME.match(name) and re.fullmatch(r"/[^\s:]+", path) for name, path in volumes.items())
    if len(volumes) < len(given) or len({*volumes.values()}) < len(volumes) or not sound:
        expected = "name (small letters, digits, _ . -) and absolute path of each, and none of them twice"
        found.refuse(f"the volumes of {owner} are {given!r}", expected, "Correct them.")
    return volumes


def _further_ports(entry: Mapping[str, Any], owner: str, defaults: Defaults, found: Survey) -> tuple[int, ...]:
    text = str(entry.get("publish") or "")
    match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", text)
    first, last = (int(match[1]), int(match[2])) if match else (0, -1)
    inside = [low <= first <= last <= high for low, high in _port_ranges(defaults)]
    if text and not (any(inside) and last - first < MOST_PUBLISHED):
        expected = f"first:last within workspace_port_range ({defaults.port_range}), at most {MOST_PUBLISHED} ports"
        found.refuse(f"publish of {owner} is {text!r}", expected, "Correct it: the firewall opens that range.")
        return ()
    return tuple(range(first, last + 1))


def _port_ranges(defaults: Defaults) -> list[tuple[int, int]]:
    try:
        return services.port_ranges(defaults.port_range)
    except GpusteadError:  # refused where ports are taken from it
        return []


def _lowered(owner: str, form: re.Pattern[str]) -> str:
    """An account's name where it is one of this form; else one like it, with a mark that tells Ada from ADA."""
    if form.match(owner):
        return owner
    words = re.sub(r"[^a-z0-9]+", "-", owner.lower()).strip("-")
    return f"{words}-{hashlib.sha256(owner.encode()).hexdigest()[:8]}".lstrip("-")


def _list(entry: Mapping[str, Any], key: str, owner: str, found: Survey) -> list[Any]:
    value = entry.get(key) or []
    if not isinstance(value, (list, tuple)):
        found.refuse(f"{key} of {owner} is {value!r}", "a list", f"Write {key}: [...].")
        return []
    return list(value)


def _account(user: Mapping[str, Any]) -> WorkspaceAccount:
    uid = int(user["uid"])
    return WorkspaceAccount(user["name"], uid, int(user.get("gid") or uid), tuple(user.get("ssh_keys") or ()))


def _ports(entry: Mapping[str, Any], owner: str, uid: int, defaults: Defaults, found: Survey) -> dict[str, int]:
    """Those declared; of the others the cluster's owner has the usual ones, an account those that its uid gives it."""
    given = entry.get("ports") or {}
    try:
        if owner == defaults.owner:
            usual = services.with_usual(defaults.ports)
        else:
            # Without room in the range for all: those that name each port need none.
            whole = isinstance(given, Mapping) and set(given) == set(SERVICES)
            usual = {} if whole else services.ports_of(uid, defaults.port_range)
    except GpusteadError as error:
        found.errors.append(error)
        return {}
    ports = {**usual, **given} if isinstance(given, Mapping) else {}
    numbers = {str(name): _port(value) for name, value in ports.items()}
    if set(numbers) != set(SERVICES) or 0 in numbers.values():
        found.refuse(
            f"the ports of {owner} are {given or defaults.ports!r}",
            f"ports from 1 to 65535, by {', '.join(SERVICES)}",
            "Correct them.",
        )
        return {}
    return numbers


def _port(value: Any) -> int:
    """0 for what is no port."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text) < 65536 else 0


def _clashes(workspaces: Sequence[Workspace]) -> Iterator[GpusteadError]:
    taken: dict[int, str] = {}
    for workspace in workspaces:
        for service, port in workspace.all_ports:
            user = f"{service} of {workspace.owner}"
            if port in taken:
                yield GpusteadError(
                    f"port {port} is published twice, by {taken[port]} and {user}",
                    "a port for each service",
                    "Give one of the workspaces ports of its own, or choose a wider workspace_port_range.",
                )
            taken.setdefault(port, user)
