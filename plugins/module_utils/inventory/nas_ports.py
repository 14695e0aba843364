# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""By what the share is served, and the ports that this takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NFS4, NFS3, GLUSTERFS = "nfs4", "nfs3", "glusterfs"
NFS_PORT, GLUSTERFS_PORT = 2049, 24007
# What NFS 3 needs besides, on TCP and UDP. Below the ports that the kernel gives to whoever asks for none (32768).
RPCBIND, MOUNTD, STATD, LOCKD = 111, 20048, 32765, 32766
_LOCKS = f"{STATD}:{LOCKD}"
_VERSION_3 = re.compile(r"(?:^|,)(?:(?:nfs)?vers=|v)3(?:\.0)?(?:,|$)")


class NasPorts(NamedTuple):
    """Ports and ranges (`first:last`) of a server of the share, for the cluster's network."""

    tcp: list[str]
    udp: list[str]


def is_version_3(options: str) -> bool:
    """Whether options of a mount ask for NFS 3."""
    return bool(_VERSION_3.search(options))


def backend(variables: Mapping[str, Any]) -> str:
    """NFS4, NFS3 (beside 4) or GLUSTERFS: by what a host of group nas_server serves the share.

    Args:
        variables: its own, as far as they are set; else it is as in the defaults of role nas.
    """
    if variables.get("nas_server_backend"):
        return str(variables["nas_server_backend"])
    if variables.get("nas_fstype") == GLUSTERFS:
        return GLUSTERFS
    version = variables.get("nas_nfs_version", variables.get("cluster_nfs_version", ""))
    return NFS3 if str(version) == "3" else NFS4


def nas_ports(servers: Sequence[str], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, NasPorts]:
    """The ports of the servers of the share, by name; `variables` of all hosts."""
    nfs3 = [str(RPCBIND), str(MOUNTD), _LOCKS]
    ports = {
        NFS4: NasPorts([str(NFS_PORT)], []),
        NFS3: NasPorts([str(NFS_PORT), *nfs3], nfs3),
        GLUSTERFS: NasPorts([f"{GLUSTERFS_PORT}:{GLUSTERFS_PORT + 1}", "49152:60999"], []),
    }
    served = {host: backend(variables[host]) for host in servers}
    return {host: ports.get(kind, ports[NFS4]) for host, kind in served.items()}
