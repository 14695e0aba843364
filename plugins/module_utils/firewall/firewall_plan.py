# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom the firewall of a host lets in, by the groups that the host is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

Port = Union[int, str]  # a number, or a range such as 29500:29510

NODES = "gpu_nodes"
LOCKS = "nfs locks"


@dataclass(frozen=True)
class Settings:
    """The settings of the role.

    Attributes:
        enabled: whether the role manages the firewall.
        network: networks (CIDR) of the nodes.
        clients: networks that may reach the published ports besides these.
        ports: TCP ports for the nodes, by group; those of the nodes' own group are the mesh.
        published: ports that containers publish.
        bridges: names of Docker's bridges, as iptables matches them.
        extra_rules: the site's own rules, as module ufw_rules takes them.
        ssh_sources: from where SSH to the host is allowed.
        udp_ports: UDP ports for the nodes, by group.
        lock_ports: ports of a node, TCP and UDP, on which the server of an NFS 3 share calls back.
    """

    enabled: bool
    network: Sequence[str]
    clients: Sequence[str]
    ports: Mapping[str, Sequence[Port]]
    published: Sequence[Port]
    bridges: Sequence[str]
    extra_rules: Sequence[Mapping[str, Any]]
    ssh_sources: Sequence[str]
    udp_ports: Mapping[str, Sequence[Port]] = field(default_factory=dict)
    lock_ports: Sequence[Port] = ()


@dataclass(frozen=True)
class Plan:
    """What the role declares on a host.

    Attributes:
        rules: rules of ufw, as module ufw_rules takes them.
        governs_docker: whether what Docker publishes is filtered, too.
        policy: whom the firewall may let in, as module foreign_openings takes it.
    """

    rules: list[Mapping[str, Any]]
    governs_docker: bool
    policy: dict[str, Any]


_NAMES = {NODES: "mesh", "nas_server": "nas", "registry": "registry", "registry_caches": "registry caches"}


def plan(settings: Settings, groups: Collection[str]) -> Plan:
    """The rules of a host that is in these groups of the inventory."""
    everyone = [*settings.network, *settings.clients]
    rules: list[Mapping[str, Any]] = []
    for group, name in _NAMES.items():
        if group in groups:
            rules.append(_rule(settings.network, settings.ports[group], name))
            if settings.udp_ports.get(group):
                rules.append(_rule(settings.network, settings.udp_ports[group], name, "udp"))
        if group == NODES and group in groups:
            # Docker's proxy takes these in without forwarding them, as IPv6 for containers that have IPv4 alone.
            rules.append(_rule(everyone, settings.published, "published"))
            if settings.lock_ports:
                rules += [_rule(settings.network, settings.lock_ports, LOCKS, proto) for proto in ("tcp", "udp")]
    rules += settings.extra_rules
    governs = settings.enabled and NODES in groups
    policy: dict[str, Any] = {
        "rules": rules,
        "ssh_sources": settings.ssh_sources,
        # To shut out others, as fail2ban does, is everybody's right.
        "protected": everyone,
    }
    if governs:
        policy.update(published=settings.published, published_to=everyone, bridges=settings.bridges)
    return Plan(rules, governs, policy)


def _rule(sources: Sequence[str], ports: Sequence[Port], name: str, proto: str = "tcp") -> dict[str, Any]:
    return {"from_ip": [*sources], "to_port": ",".join(map(str, ports)), "proto": proto, "comment": name}
