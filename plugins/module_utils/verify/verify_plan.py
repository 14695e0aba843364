# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verify expects of a host, from its variables and the groups of the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import (
    SERVICE_ACCOUNT,
    owner_of,
    setting,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import of_host


@dataclass(frozen=True)
class Plan:
    """Options of module node_verify, of the same names; those that the firewall's role declares are not among them."""

    node: bool
    owner: str
    accounts: list[dict[str, Any]]
    service: dict[str, Any]
    nas_path: str
    nas_source: str
    nas_fstype: str
    nodes: list[str]
    image_file: str
    variant: str
    projects: list[dict[str, Any]]
    listening: dict[str, Any]
    gpus_file: str
    gpus_required: bool
    state_dir: str


def plan(host: str, variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> Plan:
    """The plan for a host.

    Args:
        host: its name in the inventory.
        variables: its own, as far as they are set.
        groups: hosts of each group.

    Raises:
        GpusteadError: its workspaces cannot be as they are declared.
    """
    nodes = list(groups.get("gpu_nodes", ()))
    owner, config_dir = owner_of(variables), setting(variables, "cluster_config_dir")
    service = {**SERVICE_ACCOUNT, **variables.get("cluster_service_account", {})}
    return Plan(
        node=host in nodes,
        owner=owner,
        accounts=[_only(user, "name", "uid", "gid") for user in variables.get("cluster_users", ())],
        service=_only(service, "uid", "gid"),
        nas_path=setting(variables, "cluster_nas_path"),
        nas_source=setting(variables, "nas_source"),
        nas_fstype=setting(variables, "nas_fstype"),
        nodes=nodes,
        image_file=f"{config_dir}/image",
        variant=_variant(host, variables, groups),
        projects=_projects(variables, owner) if host in nodes else [],
        listening=services.listening([name for name in groups if host in groups[name]], variables),
        gpus_file=f"{config_dir}/gpus.json",
        gpus_required=setting(variables, "nvidia_required"),
        state_dir=setting(variables, "cluster_state_dir"),
    )


def _variant(host: str, variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> str:
    """Name of the image that the host runs in the place of that of most nodes."""
    own = (one["name"] for one in variables.get("images_variants") or () if host in groups.get(one["nodes"], ()))
    return next(own, "")


def _only(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _projects(variables: Mapping[str, Any], owner: str) -> list[dict[str, Any]]:
    mesh = {
        "name": services.MESH_PROJECT,
        "services": {"mesh": 0},
        "owner": owner,
        "image": setting(variables, "ssh_mesh_image"),
    }
    workspaces = [
        {
            "name": workspace.project,
            "services": dict(workspace.ports),
            "owner": workspace.owner,
            "gpus": None if workspace.gpus is None else list(workspace.gpus),
            "image": setting(variables, "workspace_image"),
        }
        for workspace in of_host(variables)
    ]
    return [mesh, *workspaces]
