# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the summary says of workspaces, secrets and logging in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import Settings
from ansible_collections.gpustead.cluster.plugins.module_utils.site.summary import (
    FirewallOfHost,
    ServiceOffer,
    Summary,
    WorkspaceOffer,
    summary,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.last_report import LastReport, SeenGpus

USERS = {"cluster_users": [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501}]}
USUAL = Summary(
    facts=["1 node", "1 workspace"],
    nodes=[],
    owner="ada",
    secret="file",
    of_others=False,
    read_token="sudo -u ada cat /mnt/nas/users/ada/.config/gpustead/jupyter_token",
    log_in="ssh a",
    train="mesh-run /opt/gpustead/examples/train.py",
    reach=[],
    networks={"nodes": [], "clients": []},
    verified=LastReport(),
)


def page(**settings: Any) -> Summary:
    return summary({"a": {**USERS, **settings}}, "a")


def workspaces(**settings: Any) -> list[WorkspaceOffer]:
    (node,) = page(**settings).nodes
    return node.workspaces


def services(**settings: Any) -> list[ServiceOffer]:
    return [offer for one in workspaces(**settings) for offer in one.services]


def test_the_usual_cluster() -> None:
    (node,) = page().nodes
    assert replace(page(), nodes=[]) == USUAL
    assert (node.name, node.gpus, node.state, [one.owner for one in node.workspaces]) == ("a", "", "unknown", [""])
    assert services()[:4] == [
        ServiceOffer("JupyterLab", "http://a:18888/", True, False),
        ServiceOffer("TensorBoard", "http://a:16006/", True, False),
        ServiceOffer("Gradio", "http://a:17860/", True, False),
        ServiceOffer("SSH", "ssh -p 10022 ada@a", False, False),
    ]


def test_addresses_of_ipv6_stand_in_brackets_where_a_browser_reads_them() -> None:
    found = services(cluster_address="fd00::1", ansible_host="10.0.0.9")
    assert (found[0].where, found[3].where) == ("http://[fd00::1]:18888/", "ssh -p 10022 ada@fd00::1")


def test_a_link_is_one_whatever_the_address_is() -> None:
    assert services(cluster_address='a"/><b')[0].where == "http://a%22%2F%3E%3Cb:18888/"


def test_what_the_node_alone_reaches_is_said() -> None:
    found = services(workspace_service_bind={"jupyter": ["127.0.0.1", "::1"], "ssh": ["127.0.0.2"], "gradio": ["::"]})
    assert [(one.where, one.local) for one in (found[0], found[2], found[3])] == [
        ("http://127.0.0.1:18888/", True),
        ("http://a:17860/", False),
        ("ssh -p 10022 ada@127.0.0.1", True),
    ]


@pytest.mark.parametrize(
    ("instances", "owners", "of_others"),
    [
        ([], [""], False),
        ([{"owner": "ada"}, {"owner": "bob"}], ["ada", "bob"], True),
        ([{"owner": "bob"}], ["bob"], True),
    ],
)
def test_owners_are_named_where_there_are_several(instances: list[Any], owners: list[str], of_others: bool) -> None:
    assert [one.owner for one in workspaces(workspace_instances=instances)] == owners
    assert page(workspace_instances=instances).of_others is of_others


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({}, "file"),
        ({"workspace_jupyter_token": "t"}, "token"),
        ({"workspace_jupyter_password_hash": "argon2:x", "workspace_jupyter_token": ""}, "password"),
    ],
)
def test_the_secret_of_jupyterlab(settings: dict[str, Any], secret: str) -> None:
    assert page(**settings).secret == secret


def test_how_one_logs_in() -> None:
    found = page(
        ansible_host="10.0.0.9",
        ansible_user="ops",
        ansible_port=2200,
        ansible_ssh_private_key_file="~/key",
        ansible_ssh_common_args="-o X=y",
    )
    assert found.log_in == "ssh -i ~/key -o X=y -p 2200 ops@10.0.0.9"


def test_who_has_a_key_here_is_told_the_whole_command() -> None:
    """As in a lab, whose key and host keys lie beside its inventory."""
    settings = {
        "ansible_host": "10.0.0.9",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/lab/known_hosts",
        "client_identity_file": "/lab/key",
        "workspace_instances": [{"owner": "ada"}, {"owner": "bob"}],
    }
    ssh = [one.where for one in services(**settings) if one.title == "SSH"]
    assert ssh[0] == "ssh -i /lab/key -o UserKnownHostsFile=/lab/known_hosts -p 10022 ada@10.0.0.9"
    assert ssh[1].startswith("ssh -p ") and ssh[1].endswith(" bob@10.0.0.9")


def test_what_verify_saw_is_said_of_each_node() -> None:
    seen = LastReport(ill={"b": 1}, seen=["a", "b"], gpus={"a": SeenGpus(8, "8 x L40S"), "gone": SeenGpus(4, "4 x L4")})
    found = summary(dict.fromkeys("abc", USERS), "a", verified=seen)
    assert [(node.gpus, node.state) for node in found.nodes] == [("8 x L40S", "well"), ("", "ill"), ("", "unknown")]
    assert found.facts == ["3 nodes", "8 GPUs", "3 workspaces"]


PORTS: dict[str, Any] = {"gpu_nodes": [2222], "nas_server": [2049], "registry": [5000], "registry_caches": []}
FIREWALL = Settings(
    True, ["10.1.0.0/24"], ["10.2.0.0/24"], PORTS, [18888, 16006, 10022, "19000:19999"], [], [], ["any"]
)


def test_who_reaches_what_is_said_of_all_hosts_at_once() -> None:
    node = {
        **USERS,
        "group_names": ["gpu_nodes"],
        "workspace_instances": [{"owner": "ada"}, {"owner": "bob"}],
        "workspace_service_bind": {"tensorboard": ["::1"]},
    }
    hosts: dict[str, dict[str, Any]] = {
        "a": node,
        "b": {**node, "workspace_service_bind": {}},
        "nas": {"group_names": ["nas_server"]},
    }
    firewalls = {host: FirewallOfHost(FIREWALL, 22, variables) for host, variables in hosts.items()}
    found = summary({"a": hosts["a"], "b": hosts["b"]}, "a", firewalls)
    rows = {(row.what, row.ports, "".join(row.hosts)): (row.outsiders, row.clients, row.nodes) for row in found.reach}
    everyone, inside, nodes, nobody = ("yes",) * 3, ("no", "yes", "yes"), ("no", "no", "yes"), ("no",) * 3
    expected = {
        ("SSH to the host", "22", "abnas"): everyone,
        ("JupyterLab", "18888", "ab"): inside,
        ("TensorBoard", "16006", "a"): nobody,
        ("TensorBoard", "16006", "b"): inside,
        ("TensorBoard", "19005", "a"): nobody,
        ("workspace SSH", "10022", "ab"): inside,
        ("workspaces of others", "19000-19999", "ab"): inside,
        ("Gradio", "17860", "ab"): nobody,
        ("the mesh's sshd", "2222", "ab"): nodes,
        ("the NAS server", "2049", "nas"): nodes,
        ("all other ports", "", "abnas"): nobody,
    }
    assert {key: rows.get(key) for key in expected} == expected
    assert found.networks == {"nodes": ["10.1.0.0/24"], "clients": ["10.2.0.0/24"]}
