# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the cluster offers to whom, from the inventory alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import WORKSPACE_SERVICES
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of, owner_of, setting
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace, of_host

NOBODY = "OWNER"  # stands for the owner's name where there are no accounts


@dataclass(frozen=True)
class WorkspaceServices:
    """A workspace: node, and owner where that is to be said; a line for each of its services."""

    title: str
    services: list[str]


@dataclass(frozen=True)
class Summary:
    """What the page says.

    Attributes:
        nodes: their number.
        workspaces: of all nodes.
        owner: of the cluster.
        secret: of the owner's JupyterLab: password, token (both as the site declares them) or file (a token made once).
        of_others: whether others have workspaces, too.
        log_in: command that logs in to a node.
        nas_path: where the share is mounted.
    """

    nodes: int
    workspaces: list[WorkspaceServices]
    owner: str
    secret: str
    of_others: bool
    log_in: str
    nas_path: str


def summary(hosts: Mapping[str, Mapping[str, Any]], example: str) -> Summary:
    """The page of a cluster.

    Args:
        hosts: variables of each GPU node, as far as they are set.
        example: the node whose settings stand for those of all.

    Raises:
        GpusteadError: workspaces cannot be as they are declared.
    """
    variables = hosts[example]
    workspaces = {host: of_host(values) for host, values in hosts.items()}
    owner = owner_of(variables) or NOBODY
    return Summary(
        nodes=len(hosts),
        workspaces=[
            WorkspaceServices(
                f"{host}, {one.owner}" if len(found) > 1 or one.owner != owner else host,
                [*_services(one, host, hosts[host])],
            )
            for host, found in workspaces.items()
            for one in found
        ],
        owner=owner,
        secret=_secret(variables),
        of_others={one.owner for found in workspaces.values() for one in found} != {owner},
        log_in=_log_in(variables, example),
        nas_path=setting(variables, "cluster_nas_path"),
    )


def _services(workspace: Workspace, host: str, variables: Mapping[str, Any]) -> Iterator[str]:
    address = address_of(variables, host)
    table = {service.name: service for service in WORKSPACE_SERVICES}
    for name, port in workspace.ports.items():
        service = table[name]
        binds = setting(variables, "workspace_service_bind").get(name, setting(variables, "workspace_bind"))
        local = all(bind == "::1" or bind.startswith("127.") for bind in binds)
        at = "127.0.0.1" if local else address
        ours = workspace.owner == (variables.get("client_user") or owner_of(variables))
        key = variables.get("client_identity_file") if ours else ""
        where = f"{_ssh(variables, key) if key else 'ssh'} -p {port} {workspace.owner}@{at}"
        if service.is_http:
            where = f"http://[{at}]:{port}/" if ":" in at else f"http://{at}:{port}/"
        yield f"{service.title:<12} {where}{'   (on the node alone)' if local else ''}"


def _secret(variables: Mapping[str, Any]) -> str:
    if setting(variables, "workspace_jupyter_password_hash"):
        return "password"
    return "token" if setting(variables, "workspace_jupyter_token") else "file"


def _log_in(variables: Mapping[str, Any], host: str) -> str:
    user = f"{variables['ansible_user']}@" if "ansible_user" in variables else ""
    port = f"-p {variables['ansible_port']} " if "ansible_port" in variables else ""
    ssh = _ssh(variables, variables.get("ansible_ssh_private_key_file"))
    return f"{ssh} {port}{user}{variables.get('ansible_host', host)}"


def _ssh(variables: Mapping[str, Any], key: str | None) -> str:
    """The command with this key, and with Ansible's way to the node: its jump host, the file of its host keys."""
    return " ".join(filter(None, ["ssh", f"-i {key}" if key else "", variables.get("ansible_ssh_common_args", "")]))
