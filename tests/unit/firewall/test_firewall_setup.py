"""What would keep the firewall from governing what Docker publishes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_setup import Observed, check, observe

NETWORKS = ["10.1.0.0/24"]
BRIDGES = ["docker0", "docker_gwbridge", "br-+"]
FRESH = ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN"]
OURS = ["-N DOCKER-USER", "-A DOCKER-USER -j gpustead-forward", "-A DOCKER-USER -j RETURN"]
THEIRS = ["-N DOCKER-USER", "-A DOCKER-USER -s 10.9.0.0/16 -j DROP", "-A DOCKER-USER -j RETURN"]
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
        # It is ours, with something before it: ufw_live puts that right.
        replace(GOOD, chains={"iptables": [*OURS, "-A DOCKER-USER -j ACCEPT"]}),
    ],
    ids=["fresh", "without Docker", "an older Docker", "ours", "ours with another"],
)
def test_a_host_that_can_be_governed(found: Observed) -> None:
    check(found, NETWORKS, BRIDGES)


REFUSED = {
    "nftables": (replace(GOOD, docker={"FirewallBackend": {"Driver": "nftables"}}), "nftables backend.*restart Docker"),
    "rules of others": (
        replace(GOOD, chains={"iptables": FRESH, "ip6tables": THEIRS}),
        r"DOCKER-USER of ip6tables holds .*\(-A DOCKER-USER -s 10.9.0.0/16 -j DROP\)",
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
        return (0, json.dumps(GOOD.docker), "") if argv[0] == "docker" else (1, "", "iptables: No chain by that name.")

    assert observe(run, host(tmp_path)) == Observed(GOOD.docker, {"iptables": []}, ["br-lan"])
    assert [" ".join(argv) for argv in asked] == ["docker info --format {{json .}}", "iptables -S DOCKER-USER"]
    assert observe(run, tmp_path / "other") == Observed({}, {}, [])


@pytest.mark.parametrize("program", ["docker", "iptables"])
def test_a_command_that_fails_is_told(tmp_path: Path, program: str) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (4, "", "Another app is\nholding the lock") if argv[0] == program else (0, "{}", "")

    with pytest.raises(GpusteadError, match=rf"{program} .* ended with 4 \(Another app is holding the lock\)"):
        observe(run, host(tmp_path))
