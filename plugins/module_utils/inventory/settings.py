# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host's variables say, with the roles' defaults: for what runs outside of the roles and does not see these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import MESH

# As in the defaults of the roles; a test holds them equal.
DEFAULTS: Mapping[str, Any] = {
    "cluster_config_dir": "/etc/gpustead",
    "cluster_nas_path": "/mnt/nas",
    "cluster_state_dir": "/var/lib/gpustead",
    "nas_fstype": "nfs4",
    "nas_source": "",
    "nvidia_required": True,
    "ssh_mesh_image": "",
    "ssh_mesh_port": MESH.port,
    "workspace_bind": ["0.0.0.0", "::"],
    "workspace_image": "",
    "workspace_jupyter_password_hash": "",
    "workspace_jupyter_token": "",
    "workspace_service_bind": {},
}
SERVICE_ACCOUNT: dict[str, Any] = {"name": "gpustead", "uid": 941, "gid": 941}


def setting(variables: Mapping[str, Any], name: str) -> Any:
    """The value of one of DEFAULTS for a host."""
    return variables.get(name, DEFAULTS[name])


def owner_of(variables: Mapping[str, Any]) -> str:
    """Name of the account that owns the workspace, the mesh and the shared files; empty: there are no accounts."""
    users = variables.get("cluster_users") or [{}]
    first = users[0].get("name") if isinstance(users[0], Mapping) else ""
    return str(variables.get("cluster_owner") or first or "")


def address_of(variables: Mapping[str, Any], host: str) -> str:
    """Where the others reach a host: an address or a name."""
    return str(variables.get("cluster_address") or variables.get("ansible_host") or host)
