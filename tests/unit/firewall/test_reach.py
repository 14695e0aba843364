# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who reaches which port, as the page says it; what ufw itself would do is asked of its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import plan
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.reach import (
    OTHERS,
    OfferedPort,
    Reach,
    merged,
    reach,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_rules import UfwRule, address, admits
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_rules import plan as ufw_plan
from ansible_collections.gpustead.cluster.tests.unit.firewall.test_firewall_plan import DECLARED
from hypothesis import given, strategies

# A server of GlusterFS, and nodes that mount another share by NFS 3.
SETTINGS = replace(
    DECLARED,
    extra_rules=[],
    ports={**DECLARED.ports, "nas_server": ["2049", "24007:24008"]},
    lock_ports=["111"],
)
SSH = "SSH to the host"
MESH = "the mesh's sshd"
EVERYONE, INSIDE, NODES, NOBODY = ("yes",) * 3, ("no", "yes", "yes"), ("no", "no", "yes"), ("no",) * 3


def rows(settings: Any = SETTINGS, *groups: str, **more: Any) -> dict[str, Reach]:
    return {row.what: row for row in reach(settings, groups, 22, **more)}


def cells(row: Reach) -> tuple[str, str, str]:
    return row.outsiders, row.clients, row.nodes


def with_rules(*rules: dict[str, Any], **more: Any) -> dict[str, Reach]:
    return rows(replace(SETTINGS, extra_rules=rules, **more), "gpu_nodes", listening={MESH: 2222})


def test_a_host_of_all_groups() -> None:
    found = reach(
        *(SETTINGS, ("gpu_nodes", "nas_server", "registry", "registry_caches"), 22),
        offered=[
            OfferedPort("JupyterLab", 18888),
            OfferedPort("Gradio", 17860, local=True),
            OfferedPort("Forge", 3000),
        ],
        listening={MESH: 2222, "the NAS server": 2049, "the registry": 5000, "the cache of docker.io": 5001},
    )
    assert [(row.what, row.ports, cells(row)) for row in found] == [
        (SSH, "22", EVERYONE),
        ("JupyterLab", "18888", INSIDE),
        ("a published port", "16006", INSIDE),
        ("Gradio", "17860", NOBODY),
        ("a published port", "10022", INSIDE),
        ("workspaces of others", "19000-19999", INSIDE),
        ("Forge", "3000", NOBODY),
        (MESH, "2222", NODES),
        ("the NAS server", "2049", NODES),
        ("the registry", "5000", NODES),
        ("the cache of docker.io", "5001", NODES),
        ("training between the nodes (DeepSpeed, NCCL, gloo)", "29500-29510, 32768-60999", NODES),
        ("the NAS server's answers about locks (NFS 3)", "111", NODES),
        ("the NAS server's answers about locks (NFS 3)", "111 (udp)", NODES),
        ("the NAS server, its other services", "24007-24008", NODES),
        ("the cache of the registry", "5010", NODES),
        (OTHERS, "", NOBODY),
    ]


def test_a_host_of_no_group_of_ours_has_ssh_alone() -> None:
    assert [(row.what, cells(row)) for row in rows(SETTINGS, "others").values()] == [(SSH, EVERYONE), (OTHERS, NOBODY)]


def test_nobody_knows_whom_the_firewall_of_somebody_else_lets_in() -> None:
    local = OfferedPort("Gradio", 17860, local=True)
    found = rows(replace(SETTINGS, enabled=False), "gpu_nodes", offered=[local])
    assert {cells(row) for what, row in found.items() if what != "Gradio"} == {("unknown",) * 3}
    assert cells(found["Gradio"]) == NOBODY


def test_what_is_not_declared_is_nobody() -> None:
    assert cells(with_rules(clients=[])[SSH]) == ("yes", "", "yes")
    assert cells(with_rules(network=[])[MESH]) == ("no", "no", "")
    # Nobody is left outside.
    assert cells(with_rules(clients=["any"])[SSH]) == ("", "yes", "yes")


CASES: dict[str, tuple[dict[str, Any], str, tuple[str, str, str], str]] = {
    "an address of elsewhere": ({"from_ip": "10.9.0.1", "to_port": "9100"}, "x", ("some", "no", "no"), "10.9.0.1"),
    "networks of the cluster": ({"from_ip": ["10.1.0.0/24", "fd00::/64"], "to_port": "9100"}, "x", NODES, ""),
    "one family of two": ({"from_ip": "10.1.0.0/24", "to_port": "9100"}, "x", ("no", "no", "some"), "10.1.0.0/24"),
    "a part of a network": ({"from_ip": "10.1.0.7", "to_port": "9100"}, "x", ("no", "no", "some"), "10.1.0.7"),
    "to a port of ours": ({"from_ip": "10.9.0.1", "to_port": "2222"}, MESH, ("some", "no", "yes"), "10.9.0.1"),
    "to some ports of a row": (
        {"from_ip": "192.0.2.0/24", "to_port": "29500"},
        "training between the nodes (DeepSpeed, NCCL, gloo)",
        ("no", "some", "yes"),
        "192.0.2.0/24, in part",
    ),
    "to all ports": ({"from_ip": "10.9.0.1"}, OTHERS, ("some", "no", "no"), "10.9.0.1"),
    "by one interface": (
        {"from_ip": ["10.1.0.0/24", "fd00::/64"], "to_port": "9100", "interface": "eth1"},
        "x",
        ("no", "no", "some"),
        "10.1.0.0/24, fd00::/64, in part",
    ),
    "out": ({"direction": "out", "from_ip": "any", "to_port": "2222"}, MESH, NODES, ""),
    "one that denies": ({"rule": "deny", "from_ip": "10.1.0.66"}, MESH, ("no", "no", "some"), "not 10.1.0.66"),
    "one that denies all": ({"rule": "reject", "to_port": "2222"}, MESH, NOBODY, ""),
    # Docker asks none of these.
    "to what Docker publishes": ({"to_port": "18888"}, "a published port", INSIDE, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_of_the_site(case: str) -> None:
    rule, what, expected, sources = CASES[case]
    row = with_rules({"proto": "tcp", "comment": "x", **rule})[what]
    assert (cells(row), row.sources) == (expected, sources)


def test_another_protocol_is_said() -> None:
    found = with_rules({"to_port": "51820", "proto": "udp", "comment": "vpn"})
    assert (found["vpn"].ports, cells(found["vpn"])) == ("51820 (udp)", EVERYONE)
    # Its number is no port of TCP.
    assert cells(found[MESH]) == NODES


def test_rows_of_several_hosts_come_together() -> None:
    here, there = Reach("x", "1", *NODES), Reach("x", "1", *NOBODY)
    other, last = Reach("y", "2", *NODES), Reach(OTHERS, "", *NOBODY)
    found = merged({"a": [here, other, last], "b": [here, last], "c": [there, other, last]})
    assert [(row.what, row.nodes, row.hosts) for row in found] == [
        ("x", "yes", ("a", "b")),
        ("x", "no", ("c",)),
        ("y", "yes", ("a", "c")),
        (OTHERS, "no", ("a", "b", "c")),
    ]


SOURCES = ["any", "10.1.0.0/24", "10.1.0.7", "192.0.2.0/24", "10.9.0.0/16", "fd00::/64", "fd00::7", "2001:db8::/32"]
CALLERS = {
    "outsiders": ["10.9.0.1", "203.0.113.9", "2001:db8::1"],
    "clients": ["192.0.2.0", "192.0.2.255"],
    "nodes": ["10.1.0.7", "10.1.0.255", "fd00::7", "fd00::9"],
}
RULES: strategies.SearchStrategy[dict[str, Any]] = strategies.builds(
    dict,
    rule=strategies.sampled_from(["allow", "limit", "deny", "reject"]),
    from_ip=strategies.lists(strategies.sampled_from(SOURCES), max_size=2),
    to_port=strategies.sampled_from(["", "22", "2222", "9100", "2222,9100", "2000:3000"]),
    proto=strategies.sampled_from(["tcp", "any", "udp"]),
)


@given(strategies.lists(RULES, max_size=4))
def test_it_says_what_ufw_does(rules: list[dict[str, Any]]) -> None:
    """Whom ufw admits by these rules, in the order in which the role puts them."""
    made = plan(replace(SETTINGS, extra_rules=rules), ["gpu_nodes"]).rules
    ssh = {"from_ip": SETTINGS.ssh_sources, "to_port": "22", "proto": "tcp"}
    ufw = [
        UfwRule(rule.get("rule", "allow"), source=address(source), port=rule["to_port"], proto=rule["proto"])
        for rule in [ssh, *made]
        for source in rule["from_ip"]
    ]
    ufw = [*ufw_plan([], ufw).after]
    for what, port in ((SSH, 22), (MESH, 2222)):
        row = with_rules(*rules)[what]
        for column, callers in CALLERS.items():
            admitted = {admits(ufw, caller, port) for caller in callers}
            assert {"yes": {True}, "no": {False}}.get(getattr(row, column), admitted) == admitted, (row, column)
