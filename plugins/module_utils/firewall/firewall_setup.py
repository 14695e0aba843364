# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep the firewall from governing a host and what Docker publishes, before anything is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import docker_bridges
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.bans import is_ban
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import parse_save
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import Spans, sources_of
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

CHAIN = "DOCKER-USER"
FAMILIES = {"iptables": "v4", "ip6tables": "v6"}
OWN_JUMP = "-j gpustead-forward"
ANY_BRIDGE = "br-+"
_DOCKERS = re.compile("br-[0-9a-f]{12}")


@dataclass(frozen=True)
class Observed:
    """What was observed.

    Attributes:
        docker: what `docker info` tells; empty where no Docker runs.
        chains: rules of the chain DOCKER-USER, and of those that it leads to, as `-S` prints them, by command; empty
            where there is no such chain.
        bridges: names of the host's network bridges that look like Docker's.
        networks: the bridges of Docker's networks.
        ipv6: whether the kernel has IPv6; without, ip6tables may not answer.
    """

    docker: dict[str, Any]
    chains: dict[str, list[str]]
    bridges: list[str]
    networks: list[str] = field(default_factory=list)
    ipv6: bool = True


def observe(run: Run, root: Path = Path("/")) -> Observed:
    """Look at a host. `root` stands before each path.

    Raises:
        GpusteadError: a command that should tell it fails.
    """
    docker: dict[str, Any] = {}
    networks: list[str] = []
    if (root / "run/docker.sock").exists():
        said = must(run, ["docker", "info", "--format", "{{json .}}"])
        docker = json.loads(said) if said.startswith("{") else {}
        networks = _networks(run)
    chains = {}
    ipv6 = (root / "proc/net/if_inet6").exists()
    for command, family in FAMILIES.items():
        if (root / "usr/sbin" / command).exists() and (family == "v4" or ipv6):
            chains[command] = _rules(run, command)
    found = sorted(path.name for path in (root / "sys/class/net").glob("br-*"))
    return Observed(docker, chains, found, networks, ipv6)


def _networks(run: Run) -> list[str]:
    """The bridges of Docker's networks. One that goes meanwhile has none."""
    ids = must(run, ["docker", "network", "ls", "--quiet", "--filter", "driver=bridge"]).split()
    said = must(run, ["docker", "network", "inspect", "--format", "{{json .}}", *ids], good=(0, 1)) if ids else ""
    return docker_bridges.names(json.loads(line) for line in said.splitlines() if line.startswith("{"))


def _rules(run: Run, command: str) -> list[str]:
    """The rules of DOCKER-USER, and of others' chains that it leads to. Status 1: there is no such chain."""
    lines = must(run, [command, "-S", CHAIN], good=(0, 1)).splitlines()
    targets = {
        line.split()[-1] for line in lines if re.search(r" -j (?!(RETURN|ACCEPT|DROP|gpustead-forward)$)\S+$", line)
    }
    for target in sorted(targets):
        lines += must(run, [command, "-S", target], good=(0, 1)).splitlines()
    return lines


def check(found: Observed, networks: Sequence[str], bridges: Sequence[str] = ()) -> None:
    """Refuse a host on which what Docker publishes could not be governed, or the nodes would be shut out.

    Args:
        networks: of the nodes.
        bridges: names of Docker's bridges, as iptables matches them; none where Docker is not governed.

    Raises:
        GpusteadError: the first that is in the way.
    """
    if not networks:
        raise GpusteadError(
            "cluster_network is empty",
            'the networks (CIDR) in which the nodes live, such as ["10.1.0.0/24"]',
            "Set it in your inventory: the firewall opens the mesh between them alone.",
        )
    backend = (found.docker.get("FirewallBackend") or {}).get("Driver") or "iptables"
    if backend.startswith("nftables"):
        raise GpusteadError(
            "Docker filters with its nftables backend",
            f"iptables: without the chain {CHAIN} published ports could not be governed",
            'Remove "firewall-backend" from /etc/docker/daemon.json and restart Docker.',
        )
    for command, lines in found.chains.items():
        # Our block owns the chain: ufw empties it when it loads the block.
        foreign = _foreign(lines, sources_of(networks)[FAMILIES[command]])
        if foreign and not any(OWN_JUMP in line for line in lines):
            raise GpusteadError(
                f"the chain {CHAIN} of {command} holds rules that are not ours ({'; '.join(foreign)})",
                "none: the block in /etc/ufw/after.rules would empty it",
                "Remove them (and what puts them there), or set firewall_enabled to false for this host.",
            )
    strangers = [name for name in found.bridges if not _DOCKERS.fullmatch(name)]
    if strangers and ANY_BRIDGE in bridges:
        raise GpusteadError(
            f"firewall_docker_bridges ({', '.join(bridges)}) also matches {', '.join(strangers)}",
            "names that Docker gives: traffic through any other would pass as a container's",
            f"List Docker's own bridges there instead of {ANY_BRIDGE}.",
        )


def _foreign(lines: Sequence[str], protected: Spans) -> list[str]:
    """What others have in DOCKER-USER. What fail2ban and the like ban by a chain of theirs they put there again."""
    chains = parse_save("\n".join(lines))
    rules = [rule for rule in chains.get(CHAIN, ("", []))[1] if rule != "-j RETURN"]
    by_chain = {rule for rule in rules if rule.split()[-1] in chains and is_ban(rule, chains, protected)}
    return [f"-A {CHAIN} {rule}" for rule in rules if rule not in by_chain]
