"""What a user's machine is told of nodes and workspaces."""

from __future__ import annotations

import base64
from dataclasses import astuple
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.client_plan import plan

USERS = [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501}, {"name": "eve", "uid": 1502}]
SITE = {"cluster_users": USERS, "cluster_owner": "ada"}
INSTANCES = [{"owner": "ada"}, {"owner": "bob", "accounts": ["eve"]}]
DIRECTORY = "/etc/gpustead/workspace"


def slurped(text: str, **others: str) -> dict[str, Any]:
    return {"content": base64.b64encode(text.encode()).decode(), **others}


HOSTVARS: dict[str, dict[str, Any]] = {
    "gpu02": {
        **SITE,
        "ansible_host": "192.0.2.12",
        "cluster_address": "10.0.0.12",
        "workspace_instances": INSTANCES,
        "__client_host_key": slurped("ssh-ed25519 AAAAtwo root@gpu02\n"),
        "__client_workspace_keys": {
            "results": [
                slurped("ssh-ed25519 AAAAada x\n", item=DIRECTORY),
                slurped("ssh-ed25519 AAAAbob x\n", item=f"{DIRECTORY}/users/bob"),
            ]
        },
    },
    # It did not answer.
    "gpu01": {**SITE, "ansible_host": "192.0.2.11", "ansible_port": "2022"},
    "gpu03": {**SITE, "__client_host_key": {"failed": True}, "__client_workspace_keys": {"results": []}},
}


def test_nodes_and_the_users_workspaces_by_name() -> None:
    found = plan(list(HOSTVARS), HOSTVARS, "ada")
    assert [astuple(host) for host in found.hosts] == [
        ("gpu01", "192.0.2.11", 2022),
        ("gpu01-workspace", "192.0.2.11", 10022),
        ("gpu02", "10.0.0.12", 22),
        ("gpu02-workspace", "10.0.0.12", 10022),
        ("gpu03", "gpu03", 22),
        ("gpu03-workspace", "gpu03", 10022),
    ]
    assert [astuple(key) for key in found.host_keys] == [
        ("gpu02", "ssh-ed25519 AAAAtwo"),
        ("gpu02-workspace", "ssh-ed25519 AAAAada"),
    ]
    assert found.projects == ["gpustead-workspace"]


def test_a_guest_finds_the_workspace_with_an_account_and_no_other() -> None:
    found = plan(["gpu02", "gpu01"], HOSTVARS, "eve")
    assert [host.name for host in found.hosts] == ["gpu01", "gpu02", "gpu02-workspace"]
    assert [key.key for key in found.host_keys] == ["ssh-ed25519 AAAAtwo", "ssh-ed25519 AAAAbob"]
    assert found.projects == ["gpustead-workspace-bob"]


def test_workspaces_that_cannot_be_meant_are_an_error() -> None:
    with pytest.raises(GpusteadError, match="zoe"):
        plan(["gpu01"], {"gpu01": {**SITE, "workspace_instances": [{"owner": "zoe"}]}}, "ada")
