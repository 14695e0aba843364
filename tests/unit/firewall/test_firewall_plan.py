"""Whom the firewall of a host lets in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import Settings, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import parse_save
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

NODES, CLIENTS = ["10.1.0.0/24", "fd00::/64"], ["192.0.2.0/24"]
METRICS = {"rule": "allow", "to_port": "9100", "from_ip": "10.9.0.1", "proto": "tcp", "comment": "metrics"}
DECLARED = Settings(
    enabled=True,
    network=NODES,
    clients=CLIENTS,
    ports={
        "gpu_nodes": ["2222", "29500:29510", "32768:60999"],
        "nas_server": ["2049"],
        "registry": [5000],
        "registry_caches": [5001, 5010],
    },
    published=[18888, 16006, 17860, 10022, "19000:19999"],
    bridges=["docker0", "docker_gwbridge", "br-+"],
    extra_rules=[METRICS],
    ssh_sources=["any"],
)


def rule(sources: Sequence[str], ports: str, name: str, proto: str = "tcp") -> dict[str, Any]:
    return {"from_ip": sources, "to_port": ports, "proto": proto, "comment": name}


MESH = rule(NODES, "2222,29500:29510,32768:60999", "mesh")
PUBLISHED = rule(NODES + CLIENTS, "18888,16006,17860,10022,19000:19999", "published")
NAS = rule(NODES, "2049", "nas")
REGISTRY = rule(NODES, "5000", "registry")
CACHES = rule(NODES, "5001,5010", "registry caches")
RULES = {
    "a node": (["gpu_nodes"], [MESH, PUBLISHED, METRICS]),
    "everything": (
        ["registry_caches", "gpu_nodes", "nas_server", "registry"],
        [MESH, PUBLISHED, NAS, REGISTRY, CACHES, METRICS],
    ),
    "a NAS server": (["nas_server", "others"], [NAS, METRICS]),
    "none of these": (["others"], [METRICS]),
}


@pytest.mark.parametrize(("groups", "rules"), RULES.values(), ids=list(RULES))
def test_rules(groups: Sequence[str], rules: Sequence[dict[str, Any]]) -> None:
    assert plan(DECLARED, groups).rules == rules


def test_nfs_3_has_ports_of_udp_and_of_its_clients() -> None:
    declared = replace(DECLARED, udp_ports={"nas_server": ["111"]}, lock_ports=["111", "32765:32766"])
    locks = [rule(NODES, "111,32765:32766", "nfs locks", proto) for proto in ("tcp", "udp")]
    assert plan(declared, ["nas_server"]).rules == [NAS, rule(NODES, "111", "nas", "udp"), METRICS]
    assert plan(declared, ["gpu_nodes"]).rules == [MESH, PUBLISHED, *locks, METRICS]


FORWARDED = {"published": DECLARED.published, "published_to": NODES + CLIENTS, "bridges": DECLARED.bridges}


@pytest.mark.parametrize(
    ("enabled", "groups", "forwarded"),
    [(True, ["gpu_nodes"], FORWARDED), (True, ["registry"], {}), (False, ["gpu_nodes"], {})],
    ids=["a node", "no node", "not managed"],
)
def test_policy(enabled: bool, groups: Sequence[str], forwarded: dict[str, Any]) -> None:
    found = plan(replace(DECLARED, enabled=enabled), groups)
    expected = {"rules": found.rules, "ssh_sources": ["any"], "protected": NODES + CLIENTS}
    assert (found.governs_docker, found.policy) == (bool(forwarded), {**expected, **forwarded})


def test_the_role_hands_over_its_settings(tmp_path: Path) -> None:
    groups = ["gpu_nodes", "nas_server", "registry", "registry_caches"]
    settings = {
        "firewall_network": NODES,
        "firewall_clients": CLIENTS,
        "cluster_workspace_port_range": "19000:19999",
        "firewall_extra_rules": [METRICS],
    }
    found = render(tmp_path, "firewall", ["__firewall_plan"], {group: ["a"] for group in groups}, settings)
    assert found["__firewall_plan"] == vars(plan(replace(DECLARED, udp_ports={"nas_server": []}), groups))


def test_the_role_opens_what_the_share_is_served_by(tmp_path: Path) -> None:
    settings = {"firewall_network": NODES, "nas_fstype": "nfs", "cluster_nfs_version": 3}
    groups = {"gpu_nodes": ["a"], "nas_server": ["a"]}
    found = render(tmp_path, "firewall", ["__firewall_plan"], groups, settings)["__firewall_plan"]["rules"]
    of_nas = [one for one in found if one["comment"] in ("nas", "nfs locks")]
    assert {(one["comment"], one["proto"], one["to_port"]) for one in of_nas} == {
        ("nas", "tcp", "2049,111,20048,32765:32766"),
        ("nas", "udp", "111,20048,32765:32766"),
        ("nfs locks", "tcp", "111,32765:32766"),
        ("nfs locks", "udp", "111,32765:32766"),
    }


TEMPLATE = "lookup('ansible.builtin.template', role_path ~ '/templates/docker_user.rules.j2', template_vars=these)"


def test_the_block_closes_what_was_not_declared_whatever_the_bridge_is_called(tmp_path: Path) -> None:
    settings = {
        "text": f"{{{{ {TEMPLATE} }}}}",
        "these": {"__firewall_networks": ["10.1.0.0/24"]},
        "firewall_published_ports": ["18888"],
        "__firewall_setup": {"bridges": ["docker-ml"]},
    }
    text = render(tmp_path, "firewall", ["text"], {"gpu_nodes": ["a"]}, settings)["text"]
    bridges = ["docker0", "docker_gwbridge", "br-+", "docker-ml"]
    assert parse_save(text)["gpustead-forward"][1] == [
        "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        *(f"-i {bridge} -j RETURN" for bridge in bridges),
        "-s 10.1.0.0/24 -p tcp -m conntrack --ctstate DNAT --ctorigdstport 18888 -j RETURN",
        "-m conntrack --ctstate DNAT -j DROP",
        *(f"-o {bridge} -j DROP" for bridge in bridges),
        "-j RETURN",
    ]
