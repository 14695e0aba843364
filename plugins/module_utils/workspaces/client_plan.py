# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role client tells a user's machine of the nodes and of the user's workspaces there: names, ports, host keys."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace, of_host


@dataclass(frozen=True)
class SshHost:
    """A name that ssh knows then, and what stands behind it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class HostKey:
    """Type and key of a host, in one line without a comment."""

    name: str
    key: str


@dataclass(frozen=True)
class Plan:
    """What the tasks of the role write.

    Attributes:
        hosts: the nodes, each followed by the user's workspace there, by the name of the node.
        host_keys: keys of those that have answered.
        projects: compose projects of the user's workspaces, each once.
    """

    hosts: list[SshHost]
    host_keys: list[HostKey]
    projects: list[str]


def plan(nodes: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], user: str) -> Plan:
    """Plan a user's machine.

    Args:
        nodes: the nodes to be reached.
        hostvars: their variables, with what playbooks/client.yml has read of their host keys.
        user: the account; of its workspaces on a node the first one counts, its own before others'.

    Raises:
        GpusteadError: workspaces of a node that cannot be meant.
    """
    workspaces = {node: next(iter(of_host(hostvars[node], user)), None) for node in nodes}
    return Plan(
        hosts=[host for node in sorted(nodes) for host in _hosts(node, hostvars[node], workspaces[node])],
        host_keys=[key for node in nodes for key in _keys(node, hostvars[node], workspaces[node])],
        projects=list(dict.fromkeys(one.project for one in workspaces.values() if one)),
    )


def _workspace_name(node: str) -> str:
    return f"{node}-workspace"


def _hosts(node: str, variables: Mapping[str, Any], workspace: Workspace | None) -> list[SshHost]:
    address = str(variables.get("cluster_address", variables.get("ansible_host", node)))
    found = [SshHost(node, address, int(variables.get("ansible_port", 22)))]
    return [*found, SshHost(_workspace_name(node), address, workspace.ports["ssh"])] if workspace else found


def _keys(node: str, variables: Mapping[str, Any], workspace: Workspace | None) -> list[HostKey]:
    read = [(node, variables.get("__client_host_key", {}))]
    if workspace:
        answers = variables.get("__client_workspace_keys", {}).get("results", [])
        read += [(_workspace_name(node), one) for one in answers if one.get("item") == workspace.directory]
    return [HostKey(name, _without_comment(answer["content"])) for name, answer in read if answer.get("content")]


def _without_comment(content: str) -> str:
    """The first two words of a public key, as module slurp returns it."""
    return " ".join(base64.b64decode(content).decode().split()[:2])
