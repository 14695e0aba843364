# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Networks and addresses of the cluster."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Union

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.forms import is_address
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    Problem,
    Site,
)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def networks_of(host: HostVariables, name: str) -> list[Network]:
    networks: list[Network] = []
    for text in host.get(name, list, []):
        try:
            if not isinstance(text, str) or not re.search(r"/\d+\Z", text, re.ASCII):
                raise ValueError(f"{text!r} is not a network with its prefix")
            network = ipaddress.ip_network(text)
            if network.prefixlen == 0 and name == "cluster_network":
                raise ValueError(f"{text!r} holds every address there is, and its hosts are trusted as nodes")
            networks.append(network)
        except ValueError as error:
            host.refuse(name, str(error), "Write networks as CIDR, such as 10.20.0.0/24 or fd20::/64.")
    return networks


def check_networks(host: HostVariables) -> None:
    if not networks_of(host, "cluster_network") and host.ok("cluster_network"):
        host.refuse(
            "cluster_network", "is missing", 'List the networks in which the nodes live, such as ["10.20.0.0/24"].'
        )
    networks_of(host, "cluster_clients")


def check_way(host: HostVariables) -> None:
    """Addresses are written as ssh and the mesh take them: without a port, a login or a prefix."""
    for name in ("ansible_host", "cluster_address"):
        written = host.get(name, str, "")
        bare = re.sub(r"^\[(.*)\]$", r"\1", written)
        if bare != written:
            host.refuse(name, f"is {written!r}, in brackets", f"Write {bare}.")
        elif "@" in written:
            host.refuse(
                name, f"is {written!r}, with a login", "Write the address alone, and the login as ansible_user."
            )
        elif re.search(r"^[^:]+:\d+$|\]:\d+$", written):
            host.refuse(name, f"is {written!r}, with a port", "Write the address alone, and the port as ansible_port.")
        elif written and not _is_address_or_name(written):
            host.refuse(name, f"is {written!r}, which is no address", "Write one such as 10.20.0.11, or a name.")


def _is_address_or_name(text: str) -> bool:
    """An address, or a name as DNS has it: what has digits and dots alone, or a colon, is meant as an address."""
    if re.fullmatch(r"[0-9.]+|.*:.*", text):
        return is_address(text)
    return bool(
        re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?", text)
    )


def check_python(host: HostVariables) -> None:
    """Roles install what modules need for the Python of the system."""
    if host.values.get("ansible_connection") == "local" and not host.values.get("ansible_python_interpreter"):
        what = "is not set, and with connection local Ansible takes the first Python of its own environment"
        host.refuse("ansible_python_interpreter", what, "Set it to /usr/bin/python3.")


def check_address(host: HostVariables) -> None:
    """The address of a node lies in the cluster's networks."""
    try:
        address = ipaddress.ip_address(address_of(host.values, host.name))
    except ValueError:
        return  # a name, which each host resolves for itself
    networks = networks_of(host, "cluster_network")
    for network in networks:
        first, last = network.network_address, network.broadcast_address
        if network.version == 4 and network.num_addresses > 2 and address in (first, last):
            which = "network itself" if address == first else "broadcasts of the network"
            where = "cluster_address" if host.values.get("cluster_address") else "ansible_host"
            host.refuse(where, f"{host.name} has the address {address}, that of the {which} {network}", "Correct it.")
    if networks and not any(address in network for network in networks):
        host.refuse(
            "cluster_network",
            f"{host.name} has the address {address}, outside of {', '.join(map(str, networks))}",
            "Add its network, or set cluster_address of the host to its address on the cluster's network.",
        )


def same_addresses(site: Site, nodes: Iterable[str]) -> Iterator[Problem]:
    """Nodes that the others cannot tell apart, by address or by name: ssh and DNS know no capital letters."""
    owners: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    for name in nodes:
        owners.setdefault(address_of(site.hosts.get(name, {}), name).lower(), []).append(name)
        alike.setdefault(name.lower(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield Problem("gpu_nodes", f"{' and '.join(names)} are one name to ssh and DNS", "Rename one of them.")
    for address, names in owners.items():
        if len({name.lower() for name in names}) > 1:
            places = (site.place(names[-1], name) for name in ("cluster_address", "ansible_host"))
            what = f"{' and '.join(names)} have one address, {address}"
            yield Problem("gpu_nodes", what, "Correct cluster_address.", next(filter(None, places), ""))


def same_machine(site: Site, nodes: Iterable[str]) -> Iterator[Problem]:
    """Nodes that are all the controller itself."""
    local = ("local", "ansible.builtin.local", "ansible.legacy.local")
    here = [name for name in nodes if site.hosts.get(name, {}).get("ansible_connection") in local]
    if len(here) > 1:
        what = f"{' and '.join(here)} have the connection local, which is this machine for each of them"
        place = site.place(here[-1], "ansible_connection")
        yield Problem("ansible_connection", what, "Leave it with the one that this machine is.", place)
