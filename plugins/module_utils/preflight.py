# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every problem of an inventory that can be seen before a host is changed, each as one line."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What a check needs of a host's variables; anything else is never rendered.
NAMES = (
    "ansible_host",
    "cluster_address",
    "cluster_ca_certificates",
    "cluster_ca_passphrase",
    "cluster_clients",
    "cluster_network",
    "cluster_owner",
    "cluster_users",
    "nas_extra_mounts",
    "nas_source",
    "workspace_mounts",
    "workspace_ports",
)
RELEASES = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
WORKSPACE_PORTS = {"jupyter": 18888, "tensorboard": 16006, "gradio": 17860, "ssh": 10022}
TAKEN_PORTS = {22: "the host's SSH", 2222: "the mesh", 5000: "the registry"}
KEY = re.compile(r"(\S+ )?(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-\S+@openssh\.com) AAAA\S+")


def check(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """All problems of an inventory.

    Args:
        groups: names of the hosts of each group.
        variables: per host of the cluster, the rendered values of those in NAMES that are set.

    Returns:
        One line for each problem: the value, the place, the remedy. A problem of all hosts stands once.
    """
    nodes = list(groups.get("gpu_nodes") or [])
    if not nodes:
        return [
            "group gpu_nodes has no host: it is the one group that every cluster needs; put your GPU servers there."
        ]
    problems: dict[str, None] = {}
    for node in nodes:
        for line in [*_site(variables.get(node, {})), *_node(node, variables.get(node, {}))]:
            problems.setdefault(line)
    return list(problems)


def _site(values: Mapping[str, Any]) -> Iterator[str]:
    yield from _users(values)
    yield from _networks(values)
    yield from _secrets(values)
    if not str(values.get("nas_source") or "").strip():
        yield "nas_source is empty: set it to what the nodes mount, such as nas.example.org:/export."
    yield from _ports(values.get("workspace_ports") or WORKSPACE_PORTS)
    for name, key in (("nas_extra_mounts", "path"), ("workspace_mounts", "path"), ("workspace_mounts", "host")):
        for mount in values.get(name) or []:
            path = str(mount.get(key, "")) if isinstance(mount, Mapping) else ""
            if not path.startswith("/"):
                yield f"{name}: {key} {path!r} is not an absolute path; correct it."


def _users(values: Mapping[str, Any]) -> Iterator[str]:
    users = values.get("cluster_users") or []
    if not users:
        yield "cluster_users is empty: declare at least the user who owns the cluster, with name and uid."
        return
    broken = [user for user in users if not isinstance(user, Mapping) or "name" not in user or "uid" not in user]
    for user in broken:
        yield f"cluster_users: {user!r} has no name or no uid; give it both."
    users = [user for user in users if user not in broken]
    for user in users:
        yield from _user(user)
    names = [str(user["name"]) for user in users]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"cluster_users: {name!r} is declared {count} times; keep one."
    for kind, group_of in (("uid", lambda user: user["name"]), ("gid", lambda user: user.get("group", user["name"]))):
        holders: dict[str, list[str]] = {}
        for user in users:
            holders.setdefault(str(user.get(kind, user["uid"])), []).append(str(group_of(user)))
        for number, who in holders.items():
            if len(set(who)) > 1:
                yield f"cluster_users: {kind} {number} is declared for {' and '.join(who)}; give each its own {kind}."
    owner = values.get("cluster_owner")
    if owner and owner not in names:
        yield f"cluster_owner {owner!r} is not one of cluster_users ({', '.join(names)}); add it there or correct it."


def _user(user: Mapping[str, Any]) -> Iterator[str]:
    name, uid = str(user["name"]), str(user["uid"])
    if not re.fullmatch("[a-z_][a-z0-9_-]{0,31}", name):
        yield f"cluster_users: name {name!r} is not a Linux account name; use lower-case letters, digits, - and _."
    if not uid.isdigit() or not 0 < int(uid) < 2**32 - 2:
        yield f"cluster_users: uid {uid!r} of {name!r} is not a number that Linux knows; correct it."
    elif int(uid) < 1000 and not user.get("system"):
        yield f"cluster_users: uid {uid} of {name!r} is below 1000; choose a higher one, or mean it with system: true."
    hashed = user.get("password_hash")
    if hashed and not re.match(r"\$[0-9a-z]+\$", str(hashed)):
        yield f"cluster_users: password_hash of {name!r} is no crypt(3) hash; make one with mkpasswd."
    if "password" in user:
        yield f"cluster_users: {name!r} has a password in clear; give its hash as password_hash instead."
    for key in user.get("ssh_keys") or []:
        if not KEY.match(str(key)):
            yield f"cluster_users: {name!r} has a key that is no SSH public key: {str(key)[:40]!r}; correct it."


def _networks(values: Mapping[str, Any]) -> Iterator[str]:
    if not values.get("cluster_network"):
        yield "cluster_network is empty: list the networks (CIDR) in which the nodes live, such as [10.1.0.0/24]."
    for name in ("cluster_network", "cluster_clients"):
        networks = values.get(name) or []
        if isinstance(networks, str):
            yield f"{name} is a text ({networks!r}): make it a list, even of one network."
            continue
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                yield f"{name}: {network!r} is not a network in CIDR ({error}); correct it."


def _secrets(values: Mapping[str, Any]) -> Iterator[str]:
    if len(str(values.get("cluster_ca_passphrase") or "")) < 12:
        yield "cluster_ca_passphrase is missing or shorter than 12 characters: set one, in a vault."
    for path in values.get("cluster_ca_certificates") or []:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if "-----BEGIN CERTIFICATE-----" not in file.read():
                    yield f"cluster_ca_certificates: {path} is no PEM certificate; correct the path or convert it."
        except OSError as error:
            yield f"cluster_ca_certificates: {path} on the controller: {error.strerror}; correct the path."


def _ports(ports: Mapping[str, Any]) -> Iterator[str]:
    users: dict[int, list[str]] = {port: [who] for port, who in TAKEN_PORTS.items()}
    for service, port in {**WORKSPACE_PORTS, **ports}.items():
        if not str(port).isdigit() or not 0 < int(port) < 65536:
            yield f"workspace_ports: {port!r} for {service} is no port; use 1 to 65535."
        else:
            users.setdefault(int(port), []).append(service)
    for number, who in users.items():
        if len(who) > 1:
            yield f"workspace_ports: port {number} is published for {' and '.join(who)}; give each a port of its own."


def _node(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    address = str(values.get("cluster_address") or values.get("ansible_host") or name)
    networks = values.get("cluster_network") or []
    try:
        known = [ipaddress.ip_network(network) for network in networks]
        found = ipaddress.ip_address(address)
    except ValueError:
        return  # a name, or networks that are reported already
    if known and not any(found in network for network in known if network.version == found.version):
        yield f"{name}: address {address} is not in cluster_network ({', '.join(networks)}); correct one of them."


# Printed by every host in one exchange; plain sh, because there may be no Python.
QUESTION = 'printf \'python3=%s\\nuid=%s\\n\' "$(command -v python3)" "$(id -u)"; cat /etc/os-release'


def check_host(name: str, answer: str) -> list[str]:
    """The problems of one host from its answer to QUESTION."""
    facts = dict(re.findall(r'^(\w+)="?(.*?)"?\r?$', answer, re.MULTILINE))
    problems = []
    if not facts.get("python3"):
        problems.append(f"{name}: there is no python3, which Ansible needs; install it (apt-get install python3).")
    release = facts.get("ID", "?"), facts.get("VERSION_ID", "?")
    if release[1] not in RELEASES.get(release[0], ()):
        known = ", ".join(f"{system.title()} {' or '.join(numbers)}" for system, numbers in RELEASES.items())
        problems.append(
            f"{name}: runs {' '.join(release)}, which is not supported ({known}); reinstall it or take it out."
        )
    if facts.get("uid") != "0":
        problems.append(
            f"{name}: becoming root gave uid {facts.get('uid', '?')}; check ansible_user and its sudo rights."
        )
    return problems
