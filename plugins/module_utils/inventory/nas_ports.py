# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""By what the share is served and mounted, and the ports that this takes on the server and on the nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

NFS4, NFS3, GLUSTERFS = "nfs4", "nfs3", "glusterfs"
NFS_PORT, GLUSTERFS_PORT = 2049, 24007
# What NFS 3 needs besides, on TCP and UDP. Below the ports that the kernel gives to whoever asks for none (32768).
RPCBIND, MOUNTD, STATD, LOCKD = 111, 20048, 32765, 32766
_NFS3_SERVER = (str(RPCBIND), str(MOUNTD), f"{STATD}:{LOCKD}")
# The server calls back: who waits has the lock now, and after its restart, that all ask for their locks again.
_NFS3_CLIENT = (str(RPCBIND), f"{STATD}:{LOCKD}")
_VERSION_3 = re.compile(r"(?:^|,)(?:(?:nfs)?vers=|v)3(?:\.0)?(?:,|$)")


class NasPorts(NamedTuple):
    """Ports and ranges (`first:last`) for the cluster's network.

    Attributes:
        tcp, udp: of a server of the share.
        locks: of a node that has mounted it, on TCP and UDP.
    """

    tcp: list[str]
    udp: list[str]
    locks: list[str]


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
    return NFS3 if str(variables.get("nas_nfs_version", "")) == "3" else NFS4


def nas_ports(variables: Mapping[str, Any]) -> NasPorts:
    """The ports of a host; `variables` as of `backend`."""
    served = backend(variables)
    extra = (one for one in variables.get("nas_extra_mounts") or () if isinstance(one, Mapping))
    options = [str(one.get("options", "")) for one in extra] + [str(variables.get("nas_options", ""))]
    by_version_3 = str(variables.get("nas_nfs_version", "")) == "3" or any(map(is_version_3, options))
    locks = [*_NFS3_CLIENT] if by_version_3 else []
    if served == GLUSTERFS:
        return NasPorts(["24007:24008", "49152:60999"], [], locks)
    if served == NFS3:
        return NasPorts([str(NFS_PORT), *_NFS3_SERVER], [*_NFS3_SERVER], locks)
    return NasPorts([str(NFS_PORT)], [], locks)
