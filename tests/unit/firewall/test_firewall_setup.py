"""What would keep the firewall from governing what Docker publishes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.docker_bridges import names, unmatched
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_setup import Observed, check, observe

NETWORKS = ["10.1.0.0/24"]
BRIDGES = ["docker0", "docker_gwbridge", "br-+"]
FRESH = ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN"]
OURS = ["-N DOCKER-USER", "-A DOCKER-USER -j gpustead-forward", "-A DOCKER-USER -j RETURN"]
THEIRS = ["-N DOCKER-USER", "-A DOCKER-USER -s 10.9.0.0/16 -j DROP", "-A DOCKER-USER -j RETURN"]
BANNED = [
    "-N DOCKER-USER",
    "-A DOCKER-USER -p tcp -m multiport --dports 80,443 -j f2b-nginx",
    "-A DOCKER-USER -j RETURN",
    "-A f2b-nginx -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable",
    "-A f2b-nginx -j RETURN",
]
# As `docker network inspect` describes them, without what is of no use here.
NAME = "com.docker.network.bridge.name"
MADE: list[dict[str, Any]] = [
    {"Name": "bridge", "Id": "a" * 64, "Driver": "bridge", "Options": {NAME: "docker0"}},
    {"Name": "a_default", "Id": "0123456789abcdef" * 4, "Driver": "bridge", "Options": {}},
    {"Name": "ml", "Id": "b" * 64, "Driver": "bridge", "Options": {NAME: "docker-ml"}},
    {"Name": "docker_gwbridge", "Id": "c" * 64, "Driver": "bridge", "Options": {NAME: "docker_gwbridge"}},
    {"Name": "lan", "Id": "d" * 64, "Driver": "macvlan", "Options": None},
]
GOOD = Observed(
    {"FirewallBackend": {"Driver": "iptables+firewalld"}}, {"iptables": FRESH, "ip6tables": []}, ["br-0123456789ab"]
)


@pytest.mark.parametrize(
    "found",
    [
        GOOD,
        Observed({}, {}, []),
        replace(GOOD, docker={"ServerVersion": "26.1.5", "FirewallBackend": None}),
        replace(GOOD, chains={"iptables": OURS, "ip6tables": OURS}),
        replace(GOOD, chains={"iptables": BANNED}),
        # It is ours, with something before it: ufw_live puts that right.
        replace(GOOD, chains={"iptables": [*OURS, "-A DOCKER-USER -j ACCEPT"]}),
    ],
    ids=["fresh", "without Docker", "an older Docker", "ours", "bans", "ours with another"],
)
def test_a_host_that_can_be_governed(found: Observed) -> None:
    check(found, NETWORKS, BRIDGES)


REFUSED = {
    "nftables": (replace(GOOD, docker={"FirewallBackend": {"Driver": "nftables"}}), "nftables backend.*restart Docker"),
    "rules of others": (
        replace(GOOD, chains={"iptables": FRESH, "ip6tables": THEIRS}),
        r"DOCKER-USER of ip6tables holds .*\(-A DOCKER-USER -s 10.9.0.0/16 -j DROP\)",
    ),
    "a ban of a node": (
        replace(GOOD, chains={"iptables": [line.replace("203.0.113.7", "10.1.0.12") for line in BANNED]}),
        r"DOCKER-USER of iptables holds .*-j f2b-nginx\)",
    ),
    "a chain that lets in": (
        replace(GOOD, chains={"iptables": [*BANNED, "-A f2b-nginx -s 10.9.0.0/16 -j ACCEPT"]}),
        r"DOCKER-USER of iptables holds .*-j f2b-nginx\)",
    ),
    "a bridge of a hypervisor": (
        replace(GOOD, bridges=["br-0123456789ab", "br-lan"]),
        r"firewall_docker_bridges \(docker0, docker_gwbridge, br-\+\) also matches br-lan: expected",
    ),
}


@pytest.mark.parametrize(("found", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_host_that_cannot(found: Observed, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        check(found, NETWORKS, BRIDGES)


def test_a_cluster_without_a_network() -> None:
    with pytest.raises(GpusteadError, match=r'cluster_network is empty: expected the networks .* \["10.1.0.0/24"\]'):
        check(GOOD, [], BRIDGES)


def test_a_bridge_counts_where_its_name_is_matched() -> None:
    found = replace(GOOD, bridges=["br-lan"])
    check(found, NETWORKS, ["docker0", "br-0123456789ab"])
    check(found, NETWORKS)


def host(tmp_path: Path) -> Path:
    for name in ("run/docker.sock", "usr/sbin/iptables"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("br-lan", "docker0", "eth0"):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
    return tmp_path


def test_what_is_there_is_asked(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        if argv[0] == "iptables":
            rules = {"DOCKER-USER": BANNED[:-2], "f2b-nginx": BANNED[-2:]}
            return (0, "\n".join(rules[argv[2]]), "") if argv[2] in rules else (1, "", "No chain by that name.")
        said = {"info": json.dumps(GOOD.docker), "ls": "1234\n5678\n", "inspect": "\n".join(map(json.dumps, MADE))}
        return 0, said[argv[1] if argv[1] == "info" else argv[2]], ""

    found = observe(run, host(tmp_path))
    bridges = ["br-0123456789ab", "docker-ml", "docker0", "docker_gwbridge"]
    assert found == Observed(GOOD.docker, {"iptables": BANNED}, ["br-lan"], bridges, ipv6=False)
    assert [" ".join(argv) for argv in asked] == [
        "docker info --format {{json .}}",
        "docker network ls --quiet --filter driver=bridge",
        "docker network inspect --format {{json .}} 1234 5678",
        "iptables -S DOCKER-USER",
        "iptables -S f2b-nginx",
    ]
    assert observe(run, tmp_path / "other") == Observed({}, {}, [], ipv6=False)


def test_without_ipv6_in_the_kernel_ip6tables_is_not_asked(tmp_path: Path) -> None:
    """With ipv6.disable=1 it ends with 3: sack-cve-fixer 4, bosh-linux-stemcell-builder 40, mailcow-dockerized 5899."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        said = "can't initialize ip6tables table `filter': Address family not supported by protocol"
        return (3, "", said) if argv[0] == "ip6tables" else (0, "", "")

    (tmp_path / "usr/sbin").mkdir(parents=True)
    for command in ("iptables", "ip6tables"):
        (tmp_path / "usr/sbin" / command).touch()
    assert observe(run, tmp_path) == Observed({}, {"iptables": []}, [], ipv6=False)
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/if_inet6").touch()
    with pytest.raises(GpusteadError, match=r"ip6tables .* ended with 3"):
        observe(run, tmp_path)


@pytest.mark.parametrize("program", ["docker", "iptables"])
def test_a_command_that_fails_is_told(tmp_path: Path, program: str) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (4, "", "Another app is\nholding the lock") if argv[0] == program else (0, "{}", "")

    with pytest.raises(GpusteadError, match=rf"{program} .* ended with 4 \(Another app is holding the lock\)"):
        observe(run, host(tmp_path))


@pytest.mark.parametrize(
    ("patterns", "others"),
    [
        (BRIDGES, ["docker-ml"]),
        (["docker+", "br-+"], []),
        # Whoever lists the bridges has these, and every network that comes later.
        (["docker0", "br-aaaaaaaaaaaa"], ["br-0123456789ab", "docker-ml", "docker_gwbridge"]),
    ],
)
def test_bridges_with_other_names_than_is_declared(patterns: list[str], others: list[str]) -> None:
    assert unmatched(names(MADE), patterns) == others
