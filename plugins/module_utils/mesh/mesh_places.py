# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a node has what its mesh, its workspaces and its logins have in common: root's, and none of it secret."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.containers import ContainerBind

# mesh-run, the name of the node and the authority that its mesh is known by; at the same place in containers.
PROGRAMS = "/usr/local/lib/gpustead/mesh"
# Holds the socket by which one comes into the mesh without a network. Not below /run: containers start before roles.
DOOR = "/var/lib/gpustead-mesh"
DOOR_INSIDE = "/run/gpustead/door"


def binds(*, own_door: bool) -> tuple[ContainerBind, ...]:
    """What a container binds of it; that of the mesh makes the socket."""
    return (
        ContainerBind("", PROGRAMS, PROGRAMS, read_only=True),
        ContainerBind("", DOOR, DOOR_INSIDE, read_only=not own_door),
    )
