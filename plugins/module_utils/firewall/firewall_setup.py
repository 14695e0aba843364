# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep the firewall from governing a host and what Docker publishes, before anything is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

CHAIN = "DOCKER-USER"
OWN_JUMP = "-j gpustead-forward"
ANY_BRIDGE = "br-+"
_DOCKERS = re.compile("br-[0-9a-f]{12}")


@dataclass(frozen=True)
class Observed:
    """What was observed.

    Attributes:
        docker: what `docker info` tells; empty where no Docker runs.
        chains: rules of the chain DOCKER-USER as `-S` prints them, by command; empty where there is no such chain.
        bridges: names of the host's network bridges that look like Docker's.
    """

    docker: dict[str, Any]
    chains: dict[str, list[str]]
    bridges: list[str]


def observe(run: Run, root: Path = Path("/")) -> Observed:
    """Look at a host. `root` stands before each path.

    Raises:
        GpusteadError: a command that should tell it fails.
    """
    docker: dict[str, Any] = {}
    if (root / "run/docker.sock").exists():
        said = must(run, ["docker", "info", "--format", "{{json .}}"])
        docker = json.loads(said) if said.startswith("{") else {}
    chains = {}
    for command in ("iptables", "ip6tables"):
        if (root / "usr/sbin" / command).exists():
            # 1: there is no such chain.
            chains[command] = must(run, [command, "-S", CHAIN], good=(0, 1)).splitlines()
    return Observed(docker, chains, sorted(path.name for path in (root / "sys/class/net").glob("br-*")))


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
        foreign = [line for line in lines if line.startswith("-A ") and line != f"-A {CHAIN} -j RETURN"]
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
