# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hosts, keys and projects that a user's machine is told."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.client_plan import Client, KnownHost, SshHost, plan

USERS = {"cluster_users": [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501}]}


def slurped(text: str) -> dict[str, str]:
    return {"content": base64.b64encode(text.encode()).decode()}


def first(found: Client) -> Client:
    """Without the services that have come since the first release."""
    known = ("", "workspace")
    return Client(
        [host for host in found.hosts if host.name.partition("-")[2] in known],
        [key for key in found.host_keys if key.name.partition("-")[2] in known],
        found.projects,
    )


def node(**more: Any) -> dict[str, Any]:
    return {**USERS, **more}


def test_each_node_has_a_host_and_one_of_the_workspace_in_the_order_of_their_names() -> None:
    keys = {
        "__client_host_key": slurped("ssh-ed25519 AAAA root@b\n"),
        "__client_workspace_keys": {
            "results": [
                {"item": "/etc/gpustead/workspace/users/bob", **slurped("ssh-ed25519 CCCC bob\n")},
                {"item": "/etc/gpustead/workspace", **slurped("ssh-ed25519 BBBB\n")},
            ]
        },
    }
    found = plan({"b": node(ansible_host="10.0.0.2", ansible_port="2200", **keys), "a": node()}, "ada")
    assert first(found) == Client(
        hosts=[
            SshHost("a", "a", 22),
            SshHost("a-workspace", "a", 10022),
            SshHost("b", "10.0.0.2", "2200"),
            SshHost("b-workspace", "10.0.0.2", 10022),
        ],
        host_keys=[KnownHost("b", "ssh-ed25519 AAAA"), KnownHost("b-workspace", "ssh-ed25519 BBBB")],
        projects=["gpustead-workspace"],
    )


def test_a_guest_has_the_first_workspace_with_an_account_and_the_owner_the_own_one() -> None:
    shared = {"workspace_instances": [{"owner": "ada", "accounts": ["bob"]}]}
    own = {"workspace_instances": [*shared["workspace_instances"], {"owner": "bob"}]}
    found = plan({"a": node(**shared), "b": node(**own)}, "bob")
    assert [host.port for host in first(found).hosts] == [22, 10022, 22, 19007]
    assert found.projects == ["gpustead-workspace", "gpustead-workspace-bob"]


def test_without_a_workspace_or_an_answer_there_is_the_node_alone() -> None:
    silent = {"__client_host_key": {"unreachable": True}, "__client_workspace_keys": {"unreachable": True}}
    found = plan({"a": node(workspace_instances=[{"owner": "bob"}], **silent)}, "ada")
    assert found == Client([SshHost("a", "a", 22)], [], [])
    skipped = {"__client_workspace_keys": {"results": [{"item": "/etc/gpustead/workspace", "failed": True}]}}
    assert plan({"a": node(**skipped)}, "ada").host_keys == []


def test_keys_stand_under_the_names_that_ssh_looks_for() -> None:
    found = plan({"GPU01": node(__client_host_key=slurped("ssh-ed25519 AAAA root@b\n"))}, "ada")
    assert found.host_keys == [KnownHost("gpu01", "ssh-ed25519 AAAA")]
    assert found.hosts[0] == SshHost("GPU01", "GPU01", 22)
