"""Problems of an inventory, each as one line that names the value, the place and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.preflight import check, check_host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K ada"
GOOD: dict[str, Any] = {
    "ansible_host": "10.1.0.11",
    "cluster_network": ["10.1.0.0/24", "fd00:1::/64"],
    "cluster_clients": ["10.9.0.0/16"],
    "cluster_users": [{"name": "ada", "uid": 1500, "ssh_keys": [KEY]}, {"name": "svc", "uid": 990, "system": True}],
    "cluster_ca_passphrase": "a long enough passphrase",
    "nas_source": "nas:/export",
}
GROUPS = {"gpu_nodes": ["gpu01"]}
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "two users with one uid": (
        {"cluster_users": [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1500, "gid": 1501}]},
        ["uid 1500 is declared for ada and bob"],
    ),
    "one name twice": (
        {"cluster_users": [{"name": "ada", "uid": 1500}, {"name": "ada", "uid": 1501}]},
        ["'ada' is declared 2 times"],
    ),
    "one gid for two groups": (
        {"cluster_users": [{"name": "ada", "uid": 1500, "gid": 100}, {"name": "bob", "uid": 1501, "gid": 100}]},
        ["gid 100 is declared for ada and bob"],
    ),
    "a system uid": ({"cluster_users": [{"name": "ada", "uid": 999}]}, ["uid 999 of 'ada' is below 1000", "system"]),
    "a uid that is none": ({"cluster_users": [{"name": "ada", "uid": "x"}]}, ["uid 'x' of 'ada'"]),
    "a user without uid": ({"cluster_users": [{"name": "ada"}]}, ["no name or no uid"]),
    "a bad name": ({"cluster_users": [{"name": "Ada L", "uid": 1500}]}, ["'Ada L' is not a Linux account name"]),
    "a password in clear": ({"cluster_users": [{"name": "ada", "uid": 1500, "password": "x"}]}, ["in clear"]),
    "a hash that is none": ({"cluster_users": [{"name": "ada", "uid": 1500, "password_hash": "x"}]}, ["crypt"]),
    "a key that is none": ({"cluster_users": [{"name": "ada", "uid": 1500, "ssh_keys": ["x"]}]}, ["no SSH public key"]),
    "nobody": ({"cluster_users": []}, ["cluster_users is empty"]),
    "an unknown owner": ({"cluster_owner": "eve"}, ["cluster_owner 'eve'", "ada"]),
    "no network": ({"cluster_network": []}, ["cluster_network is empty"]),
    "a network that is none": ({"cluster_network": ["10.1.0.0/33"]}, ["'10.1.0.0/33' is not a network"]),
    "a network as text": ({"cluster_network": "10.1.0.0/24"}, ["make it a list"]),
    "host bits": ({"cluster_clients": ["10.9.0.1/16"]}, ["cluster_clients: '10.9.0.1/16'"]),
    "an address elsewhere": ({"ansible_host": "10.2.0.1"}, ["gpu01: address 10.2.0.1"]),
    "no NAS": ({"nas_source": " "}, ["nas_source is empty"]),
    "a port twice": ({"workspace_ports": {"jupyter": 18888, "tensorboard": 18888}}, ["port 18888", "tensorboard"]),
    "the mesh's port": ({"workspace_ports": {"ssh": 2222}}, ["port 2222", "the mesh"]),
    "no port": ({"workspace_ports": {"ssh": 70000}}, ["70000 for ssh"]),
    "a short passphrase": ({"cluster_ca_passphrase": "short"}, ["cluster_ca_passphrase"]),
    "an authority that is not there": ({"cluster_ca_certificates": ["/nowhere.pem"]}, ["/nowhere.pem"]),
    "a relative mount": ({"workspace_mounts": [{"host": "data", "path": "/data"}]}, ["host 'data'"]),
    "a relative extra mount": ({"nas_extra_mounts": [{"path": "data"}]}, ["path 'data'"]),
}


def test_a_good_inventory_has_no_problem() -> None:
    assert check(GROUPS, {"gpu01": GOOD}) == []


@pytest.mark.parametrize("groups", [{}, {"gpu_nodes": []}, {"nas_server": ["nas"]}])
def test_gpu_nodes_is_required(groups: dict[str, list[str]]) -> None:
    (line,) = check(groups, {})
    assert "gpu_nodes" in line


@pytest.mark.parametrize("case", BAD)
def test_each_problem_is_one_line(case: str) -> None:
    change, words = BAD[case]
    lines = check(GROUPS, {"gpu01": {**GOOD, **change}})
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines


def test_all_problems_are_found_at_once_and_those_of_the_site_stand_once() -> None:
    bad = {**GOOD, "nas_source": "", "cluster_ca_passphrase": ""}
    lines = check({"gpu_nodes": ["a", "b"]}, {"a": bad, "b": {**bad, "ansible_host": "10.2.0.1"}})
    assert [line.split()[0] for line in lines] == ["cluster_ca_passphrase", "nas_source", "b:"]


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("not one")
    (line,) = check(GROUPS, {"gpu01": {**GOOD, "cluster_ca_certificates": [str(path)]}})
    assert str(path) in line and "PEM" in line


def answer(python: str = "/usr/bin/python3", uid: str = "0", system: str = "debian", number: str = "13") -> str:
    return f'python3={python}\r\nuid={uid}\r\nPRETTY_NAME="x"\nID={system}\nVERSION_ID="{number}"\n'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(), []),
        (answer(system="ubuntu", number="24.04"), []),
        (answer(python=""), ["n1", "python3"]),
        (answer(number="11"), ["n1", "debian 11", "Debian 12 or 13"]),
        (answer(system="fedora", number="43"), ["fedora 43"]),
        (answer(uid="1000"), ["uid 1000", "sudo"]),
        ("", ["python3"]),
    ],
)
def test_hosts_are_judged_by_what_they_answer(said: str, words: list[str]) -> None:
    text = " ".join(check_host("n1", said))
    assert all(word in text for word in words) and bool(text) == bool(words)
