# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a user's machine reaches the nodes and the user's workspaces on them by SSH."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import WORKSPACE_SERVICES
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace, of_host


@dataclass(frozen=True)
class SshHost:
    """A host as ssh_config knows it."""

    name: str
    address: str
    port: Any


@dataclass(frozen=True)
class KnownHost:
    """A host key: `key` is its kind and its text, as known_hosts has them; `name` in small letters, as ssh looks."""

    name: str
    key: str


@dataclass(frozen=True)
class Client:
    """What is written there: hosts of ssh_config, keys of known_hosts, compose projects of the user's workspaces."""

    hosts: list[SshHost]
    host_keys: list[KnownHost]
    projects: list[str]


def plan(nodes: Mapping[str, Mapping[str, Any]], user: str) -> Client:
    """The plan for the machine of a user, who has the own workspace on each node, or the first one with an account.

    Args:
        nodes: variables of each node, as far as they are set; with the keys that playbooks/client.yml read there.
        user: name of the account.

    Raises:
        GpusteadError: workspaces cannot be as they are declared.
    """
    workspaces = {node: next(iter(of_host(values, user)), None) for node, values in nodes.items()}
    return Client(
        hosts=[host for node in sorted(nodes) for host in _hosts(node, nodes[node], workspaces[node])],
        host_keys=[key for node, values in nodes.items() for key in _keys(node, values, workspaces[node])],
        projects=[*dict.fromkeys(one.project for one in workspaces.values() if one)],
    )


def _aliases(node: str) -> dict[str, str]:
    """Service to the name by which it is reached."""
    return {service.name: f"{node}-{service.alias}" for service in WORKSPACE_SERVICES if service.alias}


def _hosts(node: str, variables: Mapping[str, Any], workspace: Workspace | None) -> Iterator[SshHost]:
    address = address_of(variables, node)
    yield SshHost(node, address, variables.get("ansible_port", 22))
    if workspace:
        for service, alias in _aliases(node).items():
            yield SshHost(alias, address, workspace.ports[service])


def _keys(node: str, variables: Mapping[str, Any], workspace: Workspace | None) -> Iterator[KnownHost]:
    found = {node: variables.get("__client_host_key", {})}
    if workspace:
        results = variables.get("__client_workspace_keys", {}).get("results", [])
        own: Mapping[str, Any] = next((one for one in results if one.get("item") == workspace.directory), {})
        found.update(dict.fromkeys(_aliases(node).values(), own))  # its services have one key
    for name, result in found.items():
        words = base64.b64decode(result.get("content", "")).decode(errors="replace").split()
        if words:
            yield KnownHost(name.lower(), " ".join(words[:2]))
