"""Where the nodes of the mesh are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_nodes import endpoints
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render
from jinja2 import Environment
from mesh_run import names

TEMPLATES = Path(__file__).parents[3] / "roles/ssh_mesh/templates"


def test_each_node_has_its_own_address_and_port_as_far_as_it_is_known() -> None:
    variables: dict[str, dict[str, Any]] = {
        "b": {"cluster_address": "10.0.0.2", "ansible_host": "192.0.2.2", "ssh_mesh_port": "2300"},
        "a": {"ansible_host": "192.0.2.1"},
        "c": {},
    }
    found = endpoints(["b", "a", "c", "unknown"], variables, 2222)
    assert list(found.items()) == [
        ("b", {"address": "10.0.0.2", "port": 2300}),
        ("a", {"address": "192.0.2.1", "port": 2222}),
        ("c", {"address": "c", "port": 2222}),
        ("unknown", {"address": "unknown", "port": 2222}),
    ]


def rendered(template: str, **variables: Any) -> str:
    shown = Environment(trim_blocks=True).from_string((TEMPLATES / template).read_text())
    return shown.render({f"__ssh_mesh_{name}": value for name, value in variables.items()}, ssh_mesh_user="Ada.L")


@pytest.mark.parametrize("typed", ["GPU01", "gpu01", "Node1.Example.org", "node1.example.org"])
def test_ssh_finds_a_node_that_is_written_in_capital_letters(tmp_path: Path, typed: str) -> None:
    nodes = endpoints(["GPU01"], {"GPU01": {"cluster_address": "Node1.Example.org"}}, 2222)
    found = names.parse(json.dumps({"schema": 1, "nodes": nodes}))
    (tmp_path / "config").write_text(names.configuration(found, "/known", "curve25519-sha256", "inet"))
    said = subprocess.run(
        ["ssh", "-G", "-F", str(tmp_path / "config"), typed], capture_output=True, text=True, check=True
    ).stdout
    told = dict(line.partition(" ")[::2] for line in said.splitlines())
    assert (told["hostname"].lower(), told["port"]) == ("node1.example.org", "2222")
    assert (told["hostkeyalias"], told["addressfamily"]) == ("gpu01", "inet")
    assert told["userknownhostsfile"] == "/known"
    assert "HostKeyAlias gpu01\n" in (tmp_path / "config").read_text()  # which ssh itself would make small, too
    keys = [f"ssh-ed25519 {key}" for key in ("AAAA", "BBBB")]
    lines = rendered("known_hosts.j2", nodes=nodes, authorities=keys).splitlines()
    assert lines == [f"@cert-authority gpu01 {key}" for key in keys]


@pytest.mark.parametrize(
    "nodes",
    [
        {"gpu01": {"address": "10.0.0.1\n  ProxyCommand id", "port": 2222}},
        {"gpu01": {"address": "-oProxyCommand=id", "port": 2222}},
        {"gpu01": {"address": "10.0.0.1 ProxyCommand", "port": 2222}},
        {"gpu01\nMatch exec id": {"address": "10.0.0.1", "port": 2222}},
        {"*": {"address": "10.0.0.1", "port": 2222}},
        {"gpu01": {"address": "10.0.0.1", "port": "2222\n  ProxyCommand id"}},
        {"gpu01": {"address": "10.0.0.1", "port": 1 << 70}},
        {"gpu01": {"address": "%h`id`", "port": 2222}},
        {"gpu01": "10.0.0.1"},
        ["gpu01"],
    ],
)
def test_a_list_of_nodes_tells_ssh_nothing_else(nodes: Any) -> None:
    with pytest.raises(ValueError, match="is no"):
        names.parse(json.dumps({"schema": 1, "nodes": nodes}))


@pytest.mark.parametrize(
    ("networks", "family"),
    [
        (["10.1.0.0/24", "10.2.0.0/24"], "inet"),
        (["fd00:1::/64"], "inet6"),
        (["10.1.0.0/24", "fd00:1::/64"], "any"),
        ([], "any"),
    ],
)
def test_a_name_leads_to_addresses_that_keys_are_let_in_from(
    tmp_path: Path, networks: Sequence[str], family: str
) -> None:
    """A host that has its name for IPv6, too, would else come from an address that its peers refuse."""
    groups = {"gpu_nodes": ["a"]}
    found = render(tmp_path, "ssh_mesh", ["__ssh_mesh_family"], groups, {"cluster_network": networks})
    assert found == {"__ssh_mesh_family": family}
