# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Workspaces as they are declared, their ports, and whether the firewall opens these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import (
    MESH,
    MESH_PORTS,
    REGISTRY,
    RENDEZVOUS_PORTS,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.forms import is_address
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    Site,
    whole_number,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import did_you_mean
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.registries import cache_ports
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Survey, defaults_of, survey


def check_workspaces(host: HostVariables) -> None:
    sound = all(map(host.ok, ("workspace_instances", "workspace_port_range", "cluster_workspace_port_range")))
    for error in _survey(host).errors if sound else ():
        host.refuse("workspace_instances", f"{error.what}, expected {error.expected}", error.remedy)


def check_addresses(host: HostVariables) -> None:
    """Of single services; those of all are a form."""
    for service, addresses in host.get("workspace_service_bind", dict, {}).items():
        for address in addresses if isinstance(addresses, list) else []:
            if not is_address(address):
                remedy = "Write addresses of the node, without brackets."
                host.refuse("workspace_service_bind", f"{service}, {address!r} is no address", remedy)


def check_ports(host: HostVariables, site: Site) -> None:
    usual = services.ports()
    for service in host.get("workspace_ports", dict, {}):
        if service not in usual:
            remedy = did_you_mean(str(service), usual, f"The services are {', '.join(usual)}.")
            host.refuse("workspace_ports", f"names {service!r}, which is no service", remedy)
    users: dict[int, list[str]] = {}

    def take(where: str, value: Any, user: str) -> None:
        port = whole_number(value)
        if port is None or not 0 < port < 65536:
            host.refuse(where, f"{value!r}, the port of {user}, is no port", "Choose one from 1 to 65535.")
        elif user not in users.setdefault(port, []):
            users[port].append(user)

    for where, service, value in _published(host):
        take(where, value, service)
    for value in (22, host.values.get("ansible_port") or 22):
        take("ansible_port", value, "the host's own SSH")
    take("ssh_mesh_port", host.values.get("ssh_mesh_port") or MESH.port, "the mesh")
    for value in RENDEZVOUS_PORTS:
        take("workspace_ports", value, "DeepSpeed's rendezvous")
    if host.name in site.members("registry"):
        take("cluster_registry", REGISTRY.port, "the registry")
    if host.name in site.members("registry_caches"):
        for where, value, user in cache_ports(host):
            take(where, value, user)
    for port, names in users.items():
        if len(names) > 1:
            host.refuse(
                "workspace_ports",
                f"port {port} is published twice, by {' and '.join(names)}",
                "Give each its own.",
            )


def check_firewall(host: HostVariables, site: Site) -> None:
    """A port that is changed for a service alone would be closed."""
    if host.values.get("firewall_enabled") is False or host.problems or host.refused:
        return
    shared = host.get("cluster_workspace_port_range", str, "")
    published = host.get("firewall_published_ports", list, services.opened(shared))
    for where, service, port in _published(host):
        if not _opens(published, port):
            or_else = " Or set cluster_workspace_port_range." if where == "workspace_instances" else ""
            host.refuse("firewall_published_ports", f"lacks {port}, the port of {service}", f"Add it there.{or_else}")
    mesh = host.values.get("ssh_mesh_port") or MESH.port
    if not _opens(host.get("firewall_mesh_ports", list, [*MESH_PORTS]), mesh):
        host.refuse("firewall_mesh_ports", f"lacks {mesh}, the port of the mesh", "Add it there.")
    port = host.get("cluster_registry", str, "").rpartition(":")[2]
    opened = host.values.get("firewall_registry_port") or REGISTRY.port
    if port and site.members("registry") and not _opens([opened], port):
        host.refuse("firewall_registry_port", f"is {opened}, and cluster_registry has {port}", "Set it to that one.")


def _published(host: HostVariables) -> list[tuple[str, str, Any]]:
    """(variable, service, port) of everything that the workspaces publish, as far as it can be told."""
    if not host.values.get("workspace_instances"):
        ports = services.with_usual(host.get("workspace_ports", dict, {}))
        return [("workspace_ports", service, ports[service]) for service in services.ports()]
    return [
        ("workspace_instances", f"{service} of {workspace.owner}", port)
        for workspace in _survey(host).workspaces
        for service, port in workspace.all_ports
    ]


def _survey(host: HostVariables) -> Survey:
    """What is declared, with the variables that are of the right type."""
    kinds = {"workspace_instances": list, "workspace_ports": dict, "cluster_users": list}
    names = ("cluster_owner", "cluster_workspace_port_range", "workspace_owner", "workspace_port_range")
    kinds.update(dict.fromkeys((*names, "workspace_profile"), str))
    values = {name: host.get(name, kind, None) for name, kind in kinds.items()}
    if not values["workspace_instances"] or not host.ok("cluster_users"):
        return Survey()
    return survey(values["workspace_instances"], defaults_of(values))


def _opens(entries: Sequence[Any], port: Any) -> bool:
    """Whether one of the entries, a port or a range as 29500:29510, holds the port."""
    wanted = whole_number(port)
    for entry in entries:
        first, _separator, last = str(entry).partition(":")
        low, high = whole_number(first), whole_number(last or first)
        if wanted is not None and low is not None and high is not None and low <= wanted <= high:
            return True
    return False
