# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with an inventory, and with hosts as they answer, before anything is changed."""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import os
import re
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.site import proxies
from ansible_collections.gpustead.cluster.plugins.module_utils.site.credentials import has_credentials, masked, texts
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import Site as MountSite
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import is_read_only, refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import PORTS as WORKSPACE_PORTS
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Survey, defaults_of, survey

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

GROUPS = ("gpu_nodes", "nas_server", "registry", "registry_caches")
_BY_APT = "Give it to apt on the hosts in a file of /etc/apt/auth.conf.d with mode 0600, see apt_auth.conf(5)."
_BY_BUILD = "Put the password into images_build_secrets, as the README of role images shows."
_BY_ACCOUNT = "Let the accounts have passwords of their own, in ~/.netrc or git's credential helper."
# What stands in images, in files that all may read or in command lines: what to do instead of a password in its URLs.
OPEN = {
    "docker_registry_mirrors": "Docker takes none there: let the mirror admit the hosts by their addresses.",
    "docker_repository_key_url": _BY_APT,
    "docker_repository_url": _BY_APT,
    "images_projects": _BY_BUILD,
    "images_stack": _BY_BUILD,
    "images_torch_index": _BY_BUILD,
    "nvidia_driver_repository_url": _BY_APT,
    "nvidia_toolkit_key_url": _BY_APT,
    "nvidia_toolkit_repository_url": _BY_APT,
    "workspace_repositories": _BY_ACCOUNT,
    "workspace_torch_index": _BY_ACCOUNT,
}
# The variables that are looked at. One that is not set has its role's default, which is sound.
VARIABLES = (
    "ansible_host",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_user",
    "cluster_address",
    "cluster_ca_certificates",
    "cluster_ca_passphrase",
    "cluster_cached_registries",
    "cluster_clients",
    "cluster_nas_path",
    "cluster_network",
    "cluster_owner",
    "cluster_proxy_env",
    "cluster_registry",
    "cluster_registry_cache_port",
    "cluster_service_account",
    "cluster_users",
    "cluster_workspace_port_range",
    "firewall_enabled",
    "firewall_mesh_ports",
    "firewall_published_ports",
    "firewall_registry_port",
    "nas_extra_mounts",
    "nas_options",
    "nas_source",
    "ssh_mesh_port",
    "workspace_instances",
    "workspace_mounts",
    "workspace_owner",
    "workspace_port_range",
    "workspace_ports",
    "workspace_profile",
    *OPEN,
)
# What of them may hold a password, is never shown.
SECRET = ("cluster_ca_passphrase", "cluster_proxy_env", "cluster_users")
# As in the defaults of the roles; a test holds them equal.
MESH_PORT = 2222
RENDEZVOUS_PORTS = range(29500, 29511)
REGISTRY_PORT = 5000
REGISTRY_CACHE_PORT = 5010
CACHED_REGISTRIES = ({"name": "docker.io", "url": "https://registry-1.docker.io", "port": 5001},)
FIREWALL_MESH_PORTS = ("2222", "29500:29510", "32768:60999")
PASSPHRASE_LENGTH = 12
SERVICE_ACCOUNT = {"name": "gpustead", "uid": 941, "gid": 941}
# Where no share is mounted: what the system has there would be hidden. Nor below the first.
SYSTEM_TREES = frozenset(
    ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "tmp", "usr")
)
SYSTEM_DIRECTORIES = frozenset((*SYSTEM_TREES, "home", "lost+found", "media", "mnt", "opt", "srv", "var"))
RELEASES = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
OLDEST_PYTHON = (3, 9)

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?\Z")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_CRYPT = re.compile(r"([!*]+|\$(5|6|7|y|gy|2[abxy])\$[./A-Za-z0-9=,$]{20,})\Z")
_KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/]+=*)(?:\s|\Z)")
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
class _Host:
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


def check(site: Site) -> list[Problem]:
    """All problems of an inventory. What several hosts share is told once."""
    nodes, members = site.members("gpu_nodes"), site.members(*GROUPS)
    found: dict[Problem, list[str]] = {}
    accounts: set[tuple[str, int, int]] = set()
    if not nodes:
        found[Problem("gpu_nodes", "the inventory has no host in this group", "Put the GPU servers into it.")] = []
    for name in members:
        host = _Host(name, site.hosts.get(name, {}))
        accounts |= set(_check_users(host, required=name in nodes))
        _check_login(host, site.read)
        _check_cluster(host, site)
        if name in nodes:
            _check_node(host, site)
        for problem in dict.fromkeys(host.problems):
            found.setdefault(problem, []).append(name)
    # Hosts may have different lists of users, but the share and its ids are one.
    for problem in [*_clashes(sorted(accounts)), *_same_addresses(site, nodes)]:
        found.setdefault(problem, [])
    return [_placed(problem, hosts, nodes, members) for problem, hosts in found.items()]


def _placed(problem: Problem, hosts: Sequence[str], *everyone: Sequence[str]) -> Problem:
    """The problem with the hosts that have it, unless all of a kind have it or it names them itself."""
    if not hosts or any(set(hosts) == set(names) for names in everyone) or set(hosts) & set(problem.what.split()):
        return problem
    return Problem(f"{problem.where} on {shorten(hosts)}", problem.what, problem.remedy)


def shorten(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _number(value: Any) -> int | None:
    """An id or a port, which an INI inventory or the command line gives as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return int(value)
    return None


# Accounts


def _check_users(host: _Host, required: bool) -> list[tuple[str, int, int]]:
    accounts = []
    users = host.dicts("cluster_users")
    for user in users:
        account = _check_user(host, user)
        if account:
            accounts.append(account)
    host.problems.extend(_clashes(accounts))
    _check_service_account(host, users)
    names = [str(user.get("name")) for user in users]
    if required and not users and host.ok("cluster_users"):
        host.refuse("cluster_users", "is empty", "Declare at least the account that owns the workspace: name and uid.")
    owner = host.get("cluster_owner", str, "")
    if owner and owner not in names:
        host.refuse(
            "cluster_owner",
            f"{owner!r} is no account of cluster_users ({', '.join(names) or 'which is empty'})",
            "Add it there, or name another.",
        )
    return accounts


def _check_service_account(host: _Host, users: Sequence[Mapping[str, Any]]) -> None:
    """Whoever is it, or in its group, could rename and replace the directories of everybody on the share."""
    where = "cluster_service_account"
    service = {**SERVICE_ACCOUNT, **host.get(where, dict, {})}
    name, uid, gid = service["name"], _number(service["uid"]), _number(service["gid"])
    if set(service) != set(SERVICE_ACCOUNT):
        host.refuse(where, f"has {', '.join(map(str, service))}", "Name name, uid and gid alone.")
    if not isinstance(name, str) or not _ACCOUNT.match(name) or name == "root":
        host.refuse(where, f"{name!r} cannot be the name of an account", "Use a-z, 0-9, _ and -, and not root.")
    for key, number in (("uid", uid), ("gid", gid)):
        if number is None or not 0 < number < 1000:
            host.refuse(where, f"{key} is {service[key]!r}", "Choose one from 1 to 999, as a system account has it.")
    for user in users:
        who = user.get("name")
        groups = user.get("groups")
        taken = [
            what
            for what, is_it in (
                ("its name", who == name),
                ("its uid", uid is not None and _number(user.get("uid")) == uid),
                ("its gid", gid is not None and _number(user.get("gid", user.get("uid"))) == gid),
                ("its group", name in ([*groups] if isinstance(groups, list) else []) or user.get("group") == name),
            )
            if is_it
        ]
        if taken:
            host.refuse(
                "cluster_users",
                f"{who} has {' and '.join(taken)} of the account {name} ({uid}:{gid}), the owner of the share's layout",
                "Give the account others, or set cluster_service_account.",
            )


def _check_login(host: _Host, read: Callable[[str], str]) -> None:
    """Keys that keep the controller out, where that can be told without a login."""
    login = host.get("ansible_user", str, "")
    for user in host.dicts("cluster_users"):
        if not login or user.get("name") != login or not user.get("exclusive_keys"):
            continue
        given = user.get("ssh_keys") if isinstance(user.get("ssh_keys"), list) else []
        declared = {_key_of(line) for line in given or [] if isinstance(line, str)} - {""}
        own, file = "", _private_key(host)
        if file:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                own = _key_of(read(f"{os.path.expanduser(file)}.pub"))
        if not declared or (own and own not in declared):
            what = f"that of {file}.pub is not among" if declared else "there is none in"
            host.refuse(
                "cluster_users",
                f"Ansible logs in as {login} (ansible_user), who has exclusive_keys, and {what} its ssh_keys",
                "Add the controller's public key there: else nobody gets in any more.",
            )


def _private_key(host: _Host) -> str:
    names = ("ansible_ssh_private_key_file", "ansible_private_key_file")
    return next((host.get(name, str, "") for name in names if host.get(name, str, "")), "")


def _key_of(line: str) -> str:
    match = _KEY.search(line.strip())
    return match.group(2) if match else ""


def _check_user(host: _Host, user: Mapping[str, Any]) -> tuple[str, int, int] | None:
    def refuse(what: str, remedy: str) -> None:
        host.refuse("cluster_users", what, remedy)

    name = user.get("name")
    if not isinstance(name, str) or not _ACCOUNT.match(name) or name == "root":
        refuse(
            f"{name!r} cannot be the name of an account",
            "Use up to 32 of a-z, 0-9, _ and -, beginning with a letter, and not root.",
        )
        return None
    uid, gid = _number(user.get("uid")), _number(user.get("gid", user.get("uid")))
    for key, number in (("uid", uid), ("gid", gid)):
        if number is None or not 0 < number < 2**31 or number in (65534, 65535):
            value = user.get(key, "missing")
            refuse(
                f"{key} of {name} is {value!r}" if key in user else f"{name} has no {key}", f"Give it a {key}, as 1500."
            )
            return None
    assert uid is not None and gid is not None
    if uid < 1000 and user.get("system") is not True:
        refuse(
            f"{name} has the uid {uid}, below 1000, where the system keeps its own accounts",
            "Choose one from 1000 up, or set system: true for this account.",
        )
    for group in _texts(user, "groups", refuse):
        if not _ACCOUNT.match(group):
            refuse(f"{group!r}, a group of {name}, cannot be the name of a group", "Use a-z, 0-9, _ and -.")
    for key in _texts(user, "ssh_keys", refuse):
        if not is_public_key(key):
            refuse(
                f"{key[:40]!r}… of {name} is not a whole public SSH key",
                "Paste the one line of a .pub file, such as ssh-ed25519 AAAA… ada@laptop.",
            )
    hashed = user.get("password_hash")
    if hashed and not (isinstance(hashed, str) and _CRYPT.match(hashed)):
        refuse(
            f"password_hash of {name} is not a crypt(3) string",  # its value may be a password: not shown
            "Make one with mkpasswd or the filter password_hash and a fixed salt; it begins with $6$ or $y$.",
        )
    return name, uid, gid


def _texts(user: Mapping[str, Any], key: str, refuse: Callable[[str, str], None]) -> list[str]:
    values = user.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        refuse(f"{key} of {user['name']} is not a list of texts", f"Write {key}: [...].")
        return []
    return values


def _clashes(accounts: Sequence[tuple[str, int, int]]) -> Iterator[Problem]:
    for name, count in Counter(name for name, _, _ in accounts).items():
        if count > 1:
            uids = " and ".join(str(uid) for other, uid, _ in accounts if other == name)
            yield Problem("cluster_users", f"{name} is declared {count} times, with uid {uids}", "Keep one of them.")
    of_uid: dict[int, list[str]] = {}
    of_gid: dict[int, list[str]] = {}
    for name, uid, gid in dict.fromkeys(accounts):
        of_uid.setdefault(uid, []).append(name)
        of_gid.setdefault(gid, []).append(name)
    for kind, owners in (("uid", of_uid), ("gid", of_gid)):
        for number, names in owners.items():
            # Two accounts with one uid have one gid by default: told once.
            if len(set(names)) > 1 and not (
                kind == "gid" and set(names) in [set(others) for others in of_uid.values()]
            ):
                whose = " and ".join(dict.fromkeys(names))
                what = f"the uid {number} belongs to {whose}"
                if kind == "gid":
                    what = f"the gid {number} would be the primary group of {whose}, which each have one of their own"
                yield Problem("cluster_users", what, f"Give each account a {kind} of its own.")


def is_public_key(line: str) -> bool:
    """Whether a line, as in authorized_keys, holds a public key that is complete."""
    match = _KEY.search(line.strip())
    if not match or "\n" in line.strip():
        return False
    try:
        blob = base64.b64decode(match.group(2), validate=True)
    except binascii.Error:
        return False
    parts = []
    while len(blob) >= 4:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return False
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return not blob and len(parts) > 1 and parts[0] == match.group(1).encode()


# Networks, files and ports


def _networks(host: _Host, name: str) -> list[Network]:
    networks: list[Network] = []
    for text in host.get(name, list, []):
        try:
            if not isinstance(text, str) or "/" not in text:
                raise ValueError(f"{text!r} is not a network with its prefix")
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            host.refuse(name, str(error), "Write networks as CIDR, such as 10.20.0.0/24 or fd20::/64.")
    return networks


def _check_cluster(host: _Host, site: Site) -> None:
    if not _networks(host, "cluster_network") and host.ok("cluster_network"):
        host.refuse(
            "cluster_network", "is missing", 'List the networks in which the nodes live, such as ["10.20.0.0/24"].'
        )
    _networks(host, "cluster_clients")
    for path in host.get("cluster_ca_certificates", list, []):
        reason = _bad_certificate(path, site.read)
        if reason:
            host.refuse(
                "cluster_ca_certificates", reason, "List files on the controller, each with one PEM certificate."
            )
    _check_secrets(host)
    if site.members("registry_caches"):
        _check_caches(host, site)
    reason = bad_mountpoint(host.get("cluster_nas_path", str, "/mnt/nas"))
    if reason:
        host.refuse("cluster_nas_path", reason, "Write it as /mnt/nas.")


def bad_mountpoint(path: str) -> str:
    """Why nothing can be mounted on a path; empty if something can."""
    parts = path.split("/")[1:]
    if not path.startswith("/") or path.startswith("//") or not any(parts):
        return f"{path!r} is not an absolute path below /"
    if not re.match(r"[\w@+./-]+\Z", path, re.ASCII):
        return f"{path!r} has a blank or another character that mount and Docker do not take"
    if {"", ".", ".."} & set(parts[:-1] if parts[-1] == "" else parts):
        return f"{path!r} is not written without '.', '..' and doubled slashes"
    names = [part for part in parts if part]
    if (len(names) == 1 and names[0] in SYSTEM_DIRECTORIES) or names[0] in SYSTEM_TREES:
        return f"{path!r} is a directory of the system"
    if names[:2] in (["var", "lib"], ["var", "log"], ["var", "run"], ["var", "tmp"]) and len(names) < 4:
        return f"{path!r} is a directory of the system"
    return ""


def _check_secrets(host: _Host) -> None:
    """The site's passwords stand where root alone reads them."""
    try:
        proxies.plan(host.get("cluster_proxy_env", dict, {}))
    except GpusteadError as error:
        host.refuse("cluster_proxy_env", f"{error.what}: expected {error.expected}", error.remedy)
    for name, remedy in OPEN.items():
        for text in texts(host.values.get(name)):
            if has_credentials(text):
                host.refuse(name, f"{masked(text)!r} has a password or token in its URL", remedy)
    extra = [("nas_extra_mounts", entry.get("options")) for entry in host.dicts("nas_extra_mounts")]
    for name, options in (("nas_options", host.values.get("nas_options")), *extra):
        if isinstance(options, str) and re.search(r"(?:^|,)\s*pass(?:word)?2?\s*=", options):
            host.refuse(
                name,
                "the mount options have a password (not shown), which would stand in /etc/fstab and in command lines",
                "Put user and password into a file of root's with mode 0600 on the hosts, and write credentials=FILE.",
            )


def _cached(host: _Host) -> list[Mapping[str, Any]]:
    where = "cluster_cached_registries"
    return host.dicts(where) if where in host.values else list(CACHED_REGISTRIES)


def _cache_ports(host: _Host) -> list[tuple[str, Any, str]]:
    """Of each cache on the host the variable, the port and what it is for."""
    ports = [
        ("cluster_cached_registries", entry.get("port"), f"the cache of {entry.get('name')}") for entry in _cached(host)
    ]
    own = host.values.get("cluster_registry_cache_port", REGISTRY_CACHE_PORT)
    return [*ports, ("cluster_registry_cache_port", own, "the cache of the registry")]


def _check_caches(host: _Host, site: Site) -> None:
    def refuse(what: str, remedy: str, where: str = "cluster_cached_registries") -> None:
        host.refuse(where, what, remedy)

    names = Counter(str(entry.get("name")) for entry in _cached(host))
    for entry in _cached(host):
        name, url = entry.get("name"), entry.get("url")
        if not isinstance(name, str) or not _REGISTRY.match(name):
            refuse(f"{name!r} cannot be the name of a registry", "Write it as in the names of images, such as nvcr.io.")
        reason = _bad_url(url)
        if reason:
            refuse(f"url of {name} is {masked(repr(url))}, {reason}", "Write it as https://registry.example.org.")
    for name, count in names.items():
        if count > 1:
            refuse(f"{name} is declared {count} times", "Keep one of them.")
    if host.name not in site.members("registry_caches"):
        return
    proxies = [
        name for name in host.get("cluster_proxy_env", dict, {}) if name.lower() in ("http_proxy", "https_proxy")
    ]
    if proxies and _cached(host):
        refuse(
            f"nginx would cache them and goes through no proxy, but cluster_proxy_env has {' and '.join(proxies)}",
            "Give the hosts of registry_caches a direct way out and cluster_proxy_env: {}, or cache none: [].",
        )
    users: dict[int, list[str]] = {REGISTRY_PORT: ["the registry"]} if host.name in site.members("registry") else {}
    for where, value, user in _cache_ports(host):
        port = _number(value)
        if port is None or not 0 < port < 65536:
            refuse(f"{value!r}, the port of {user}, is no port", "Choose one from 1 to 65535.", where)
        else:
            users.setdefault(port, []).append(user)
    for port, owners in users.items():
        if len(owners) > 1:
            refuse(f"port {port} is given twice, to {' and '.join(owners)}", "Give each its own.")


def _bad_url(url: Any) -> str:
    """Why nginx cannot go there."""
    if not isinstance(url, str) or not re.match(r"https?://[A-Za-z0-9.:\[\]-]+\Z", url):
        return "not http:// or https:// and a host"
    if url.startswith("https:") and re.match(r"https://(\[|[0-9.]+(:|\Z))", url):
        return "an address, which nginx does not compare with certificates"
    return ""


def _bad_certificate(path: Any, read: Callable[[str], str]) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    try:
        text = read(path)
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not a text'})"
    count = text.count("-----BEGIN CERTIFICATE-----")
    if count != 1:
        return f"{path} holds {count} PEM certificates"
    try:
        ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") :].strip())
    except ValueError:
        return f"{path} holds a PEM certificate that is damaged"
    return ""


def _address(values: Mapping[str, Any], name: str) -> str:
    return str(values.get("cluster_address") or values.get("ansible_host") or name)


def _check_node(host: _Host, site: Site) -> None:
    if not _HOST_NAME.match(host.name):
        host.refuse(
            "gpu_nodes", f"{host.name!r} is no host name, as SSH and the hostfile of DeepSpeed need it", "Rename it."
        )
    try:
        address = ipaddress.ip_address(_address(host.values, host.name))
    except ValueError:
        pass  # a name, which each host resolves for itself
    else:
        networks = _networks(host, "cluster_network")
        if networks and not any(address in network for network in networks):
            host.refuse(
                "cluster_network",
                f"{host.name} has the address {address}, outside of {', '.join(map(str, networks))}",
                "Add its network, or set cluster_address of the host to its address on the cluster's network.",
            )
    if not host.get("nas_source", str, "").strip() and host.ok("nas_source"):
        host.refuse("nas_source", "is empty", "Say what to mount, such as nas.example.org:/export/cluster.")
    if len(host.get("cluster_ca_passphrase", str, "")) < PASSPHRASE_LENGTH and host.ok("cluster_ca_passphrase"):
        host.refuse(
            "cluster_ca_passphrase",
            f"is missing or shorter than {PASSPHRASE_LENGTH} characters",
            "Set a long random text, in a vault.",
        )
    registry = host.get("cluster_registry", str, "")
    if not site.members("registry") and not registry:
        host.refuse("registry", "the inventory has no host in this group", "Put one into it, or set cluster_registry.")
    if registry and not re.match(r"[^:/\s]+:\d+\Z", registry):
        host.refuse("cluster_registry", f"{registry!r} is not host:port", "Write it as registry.example.org:5000.")
    _check_mounts(host)
    _check_workspaces(host)
    _check_ports(host, site)
    _check_firewall(host, site)


def _check_mounts(host: _Host) -> None:
    for name, keys in (("nas_extra_mounts", ("path",)), ("workspace_mounts", ("host", "path"))):
        for entry in host.dicts(name):
            for key in keys:
                path = entry.get(key)
                absolute = r"/" if key == "host" else r"/[^/]"  # what else is wrong with it is said below
                if not isinstance(path, str) or not re.match(absolute, path):
                    host.refuse(name, f"{key} is {path!r}", "Give each entry absolute paths, such as /mnt/data.")
    site = MountSite(nas=host.get("cluster_nas_path", str, "/mnt/nas"))
    for entry in host.dicts("workspace_mounts"):
        path = entry.get("host")
        if isinstance(path, str) and path.startswith("/"):
            what, remedy = refusal(path, is_read_only(entry), site)
            if what:
                host.refuse("workspace_mounts", what, remedy)
    for entry in host.dicts("nas_extra_mounts"):
        reason = bad_mountpoint(str(entry.get("path") or ""))
        if reason and isinstance(entry.get("path"), str) and re.match(r"/[^/]", entry["path"]):
            host.refuse("nas_extra_mounts", reason, "Write it as /mnt/data.")
        if not entry.get("source"):
            host.refuse("nas_extra_mounts", f"the source of {entry.get('path')} is empty", "Say what to mount there.")


def _check_ports(host: _Host, site: Site) -> None:
    services = host.get("workspace_ports", dict, WORKSPACE_PORTS)
    if set(services) != set(WORKSPACE_PORTS):
        host.refuse("workspace_ports", f"names {', '.join(services)}", f"Name {', '.join(WORKSPACE_PORTS)}, each once.")
    users: dict[int, list[str]] = {}

    def take(where: str, value: Any, user: str) -> None:
        port = _number(value)
        if port is None or not 0 < port < 65536:
            host.refuse(where, f"{value!r}, the port of {user}, is no port", "Choose one from 1 to 65535.")
        elif user not in users.setdefault(port, []):
            users[port].append(user)

    for where, service, value in _published(host):
        take(where, value, service)
    for value in (22, host.values.get("ansible_port") or 22):
        take("ansible_port", value, "the host's own SSH")
    take("ssh_mesh_port", host.values.get("ssh_mesh_port") or MESH_PORT, "the mesh")
    for value in RENDEZVOUS_PORTS:
        take("workspace_ports", value, "DeepSpeed's rendezvous")
    if host.name in site.members("registry"):
        take("cluster_registry", REGISTRY_PORT, "the registry")
    if host.name in site.members("registry_caches"):
        for where, value, user in _cache_ports(host):
            take(where, value, user)
    for port, names in users.items():
        if len(names) > 1:
            host.refuse(
                "workspace_ports",
                f"port {port} is published twice, by {' and '.join(names)}",
                "Give each its own.",
            )


def _published(host: _Host) -> list[tuple[str, str, Any]]:
    """(variable, service, port) of everything that the workspaces publish, as far as it can be told."""
    if not host.values.get("workspace_instances"):
        services = host.get("workspace_ports", dict, WORKSPACE_PORTS)
        return [("workspace_ports", str(service), port) for service, port in services.items()]
    return [
        ("workspace_instances", f"{service} of {workspace.owner}", port)
        for workspace in _survey(host).workspaces
        for service, port in workspace.ports.items()
    ]


def _survey(host: _Host) -> Survey:
    """What is declared, with the variables that are of the right type."""
    kinds = {"workspace_instances": list, "workspace_ports": dict, "cluster_users": list}
    names = ("cluster_owner", "cluster_workspace_port_range", "workspace_owner", "workspace_port_range")
    kinds.update(dict.fromkeys((*names, "workspace_profile"), str))
    values = {name: host.get(name, kind, None) for name, kind in kinds.items()}
    if not values["workspace_instances"] or not host.ok("cluster_users"):
        return Survey()
    return survey(values["workspace_instances"], defaults_of(values))


def _check_workspaces(host: _Host) -> None:
    for error in _survey(host).errors:
        host.refuse("workspace_instances", f"{error.what}, expected {error.expected}", error.remedy)


def _check_firewall(host: _Host, site: Site) -> None:
    """A port that is changed for a service alone would be closed."""
    if host.values.get("firewall_enabled") is False or host.problems:
        return
    shared = host.get("cluster_workspace_port_range", str, "")
    published = host.get("firewall_published_ports", list, [*WORKSPACE_PORTS.values(), *filter(None, [shared])])
    for where, service, port in _published(host):
        if not _opens(published, port):
            or_else = " Or set cluster_workspace_port_range." if where == "workspace_instances" else ""
            host.refuse("firewall_published_ports", f"lacks {port}, the port of {service}", f"Add it there.{or_else}")
    mesh = host.values.get("ssh_mesh_port") or MESH_PORT
    if not _opens(host.get("firewall_mesh_ports", list, FIREWALL_MESH_PORTS), mesh):
        host.refuse("firewall_mesh_ports", f"lacks {mesh}, the port of the mesh", "Add it there.")
    port = host.get("cluster_registry", str, "").rpartition(":")[2]
    opened = host.values.get("firewall_registry_port") or REGISTRY_PORT
    if port and site.members("registry") and not _opens([opened], port):
        host.refuse("firewall_registry_port", f"is {opened}, and cluster_registry has {port}", "Set it to that one.")


def _opens(entries: Sequence[Any], port: Any) -> bool:
    """Whether one of the entries, a port or a range as 29500:29510, holds the port."""
    wanted = _number(port)
    for entry in entries:
        first, _, last = str(entry).partition(":")
        low, high = _number(first), _number(last or first)
        if wanted is not None and low is not None and high is not None and low <= wanted <= high:
            return True
    return False


def _same_addresses(site: Site, nodes: Iterable[str]) -> Iterator[Problem]:
    owners: dict[str, list[str]] = {}
    for name in nodes:
        owners.setdefault(_address(site.hosts.get(name, {}), name), []).append(name)
    for address, names in owners.items():
        if len(names) > 1:
            yield Problem("gpu_nodes", f"{' and '.join(names)} have one address, {address}", "Correct cluster_address.")


# What hosts answer

_MARK = "gpustead."


def check_answer(name: str, answer: Mapping[str, Any], users: Sequence[Mapping[str, Any]] = ()) -> list[Problem]:
    """What is wrong with a host, as it answered the probe of playbooks/preflight_hosts.yml.

    Args:
        name: the host's.
        answer: rc, stdout, stderr, msg.
        users: the accounts that are declared for it.
    """
    lines = [line.strip() for line in str(answer.get("stdout", "")).splitlines()]
    said = dict(line[len(_MARK) :].split("=", 1) for line in lines if line.startswith(_MARK) and "=" in line)
    if "uid" not in said:
        words = " ".join(str(answer.get(key) or "") for key in ("msg", "stderr", "stdout")).split()
        reason = " ".join(words)[:300] or "no answer"
        if re.search("No space left on device|Disk quota exceeded|Read-only file system", reason):
            return [Problem(name, f"can write nothing ({reason})", "See df, df -i and mount there, and mend that.")]
        return [Problem(name, f"runs no commands as root ({reason})", "Give ansible_user sudo there, and see become.")]
    problems = []
    if said["uid"] != "0":
        problems.append(Problem(name, f"commands run as uid {said['uid']}, not as root", "See become and become_user."))
    login, _, uid = said.get("login", "").partition(" ")
    for declared in (_number(user.get("uid")) for user in users if login and user.get("name") == login):
        if declared is not None and str(declared) != uid:
            what = f"Ansible logs in there as {login}, who has the uid {uid}, and cluster_users gives {declared}"
            remedy = "Declare the uid that it has, or let Ansible log in as another (ansible_user)."
            problems.append(Problem(name, what, remedy))
    version = tuple(
        int(number) for number in re.findall(r"\A(\d+)\.(\d+)\Z", said.get("python", "")) for number in number
    )
    if version < OLDEST_PYTHON:
        found = said.get("python") or "nothing"
        problems.append(
            Problem(name, f"no Python 3.9 or newer ({found})", "Install it there first: apt-get install python3.")
        )
    known = [f"{system} {version}" for system, versions in RELEASES.items() for version in versions]
    release = said.get("release", "of an unknown kind").strip()
    if release not in known:
        pretty = said.get("name", "no name")
        problems.append(
            Problem(
                name,
                f"its release is {release} ({pretty}), expected one of {', '.join(known)}",
                "Install one of these there, or take the host out of the inventory.",
            )
        )
    return problems
