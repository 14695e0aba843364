# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The services of the cluster, each declared once: its name, where it listens, how one sees that it is well.

Compose files, the firewall, preflight, verify, the summary and the users' SSH configuration follow from these tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import nas_ports

# Plain http.client: a proxy must not be asked.
_HTTP_CHECK = (
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', {port}, timeout=8); "
    "c.request('GET', '{path}'); raise SystemExit(c.getresponse().status != 200)"
)
_SSH_CHECK = (
    "import socket; s = socket.create_connection(('127.0.0.1', {port}), 8); raise SystemExit(s.recv(4) != b'SSH-')"
)
_RANGE = re.compile(r"(\d+):(\d+)\Z")


@dataclass(frozen=True)
class WorkspaceService:
    """A service that each workspace has, in a container of its own.

    Attributes:
        name: of the compose service, and the key in `workspace_ports`.
        title: what people call it.
        container_port: TCP port in the container; the image listens there.
        port: TCP port on the node, in the workspace of the cluster's owner.
        place: number of its port among those of any other workspace. Once given it never changes.
        path: what an HTTP service answers with 200 when it is well; empty: it speaks SSH, and greets.
        command: of the image; its name by default.
        alias: SSH alone: a user's machine knows it as `<node>-<alias>`.
    """

    name: str
    title: str
    container_port: int
    port: int
    place: int
    path: str = ""
    command: str = ""
    alias: str = ""

    @property
    def is_http(self) -> bool:
        return bool(self.path)

    @property
    def health(self) -> str:
        """A Python program that ends with 0 in the container where the service is well."""
        return (_HTTP_CHECK if self.is_http else _SSH_CHECK).format(port=self.container_port, path=self.path)


WORKSPACE_SERVICES = (
    WorkspaceService("jupyter", "JupyterLab", 8888, 18888, 0, path="/api"),
    WorkspaceService("tensorboard", "TensorBoard", 6006, 16006, 1, path="/"),
    WorkspaceService("gradio", "Gradio", 7860, 17860, 2, path="/"),
    WorkspaceService("ssh", "SSH", 22, 10022, 3, command="sshd", alias="workspace"),
)
# Ports of a workspace in a row. Four, whatever the number of services: else a new one would move everybody's ports.
STRIDE = 4


@dataclass(frozen=True)
class HostService:
    """What listens on the hosts of a group, on a port of their own.

    Attributes:
        title: what it is called in reports.
        group: of the inventory.
        port: TCP port, unless `variable` says another.
        variable: that sets the port; empty: none does.
    """

    title: str
    group: str
    port: int
    variable: str = ""


MESH_PROJECT = "gpustead-mesh"  # of compose; its one service is called mesh
MESH = HostService("the mesh's sshd", "gpu_nodes", 2222, "ssh_mesh_port")
REGISTRY = HostService("the registry", "registry", 5000)
NFS = HostService("the NAS server", "nas_server", nas_ports.NFS_PORT)
GLUSTERFS = HostService("the NAS server", "nas_server", nas_ports.GLUSTERFS_PORT)
# Where the hosts of group registry_caches cache the cluster's own registry, and those outside.
REGISTRY_CACHE = HostService("the cache of the registry", "registry_caches", 5010, "cluster_registry_cache_port")
CACHED_REGISTRIES = ({"name": "docker.io", "url": "https://registry-1.docker.io", "port": 5001},)
# Between the nodes, beside the mesh's sshd.
RENDEZVOUS_PORTS = range(29500, 29511)
MESH_PORTS = (str(MESH.port), f"{RENDEZVOUS_PORTS[0]}:{RENDEZVOUS_PORTS[-1]}", "32768:60999")


def ports() -> dict[str, int]:
    """The port on the node of each service, in the workspace of the cluster's owner."""
    return {service.name: service.port for service in WORKSPACE_SERVICES}


def with_usual(given: Mapping[str, Any]) -> dict[str, Any]:
    """Declared ports by service; a service that they do not name, as one that is new, has its usual one."""
    return {**ports(), **given}


def port_ranges(text: str) -> list[tuple[int, int]]:
    """First and last port of the ranges in which the workspaces of others have theirs.

    Each holds STRIDE ports of each workspace: for more services, ranges of the same size follow the declared one.

    Args:
        text: the declared one, `first:last`.

    Raises:
        GpusteadError: it is none, or has no room.
    """
    match = _RANGE.match(text)
    first, last = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    size = last - first + 1
    count = max(service.place for service in WORKSPACE_SERVICES) // STRIDE + 1
    if not 0 < first < last or size < STRIDE or first + count * size > 65536:
        raise GpusteadError(f"workspace_port_range is {text!r}", "first:last, such as 19000:19999", "Write it so.")
    return [(first + number * size, last + number * size) for number in range(count)]


def ports_of(uid: int, text: str) -> dict[str, int]:
    """The port on the node of each service, in the workspace of another account.

    They depend on nothing but its uid and the range: no workspace or service that comes moves those of others.

    Args:
        uid: the account's.
        text: the declared range, `first:last`.

    Raises:
        GpusteadError: see `port_ranges`.
    """
    ranges = port_ranges(text)
    first, last = ranges[0]
    row = STRIDE * (uid % ((last - first + 1) // STRIDE))
    return {
        service.name: ranges[service.place // STRIDE][0] + row + service.place % STRIDE
        for service in WORKSPACE_SERVICES
    }


def opened(text: str) -> list[Any]:
    """Ports and ranges (`first:last`) that the firewall opens for the workspaces.

    Args:
        text: the range for the workspaces of others; empty: there are none.
    """
    if not text:
        return [*ports().values()]
    try:
        further = [f"{first}:{last}" for first, last in port_ranges(text)[1:]]
    except GpusteadError:  # role workspace refuses it
        further = []
    return [*ports().values(), text, *further]


def listening(group_names: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """What listens on the ports of a host itself: title to port.

    Args:
        group_names: the groups that it is in.
        variables: its own, as far as they are set.
    """
    nas = GLUSTERFS if nas_ports.backend(variables) == nas_ports.GLUSTERFS else NFS
    services = (MESH, nas, REGISTRY)
    found = {one.title: variables.get(one.variable, one.port) for one in services if one.group in group_names}
    if REGISTRY_CACHE.group in group_names:
        cached = variables.get("cluster_cached_registries", CACHED_REGISTRIES)
        found.update({f"the cache of {entry['name']}": entry["port"] for entry in cached})
    return found
