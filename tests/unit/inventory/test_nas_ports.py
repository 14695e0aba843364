# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which ports the share takes, by what it is served; the ports themselves as nfs.conf gives them out."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.nas_ports import (
    LOCKD,
    MOUNTD,
    RPCBIND,
    STATD,
    NasPorts,
    backend,
    is_version_3,
    nas_ports,
)
from ansible_collections.gpustead.cluster.tests.unit.inventory.test_services import default

V3 = ["111", "20048", "32765:32766"]
NFS4, NFS3 = NasPorts(["2049"], []), NasPorts(["2049", *V3], V3)
GLUSTERFS = NasPorts(["24007:24008", "49152:60999"], [])
# Variables of a host, by what it serves the share, and its ports.
CASES: dict[str, tuple[dict[str, Any], str, NasPorts]] = {
    "as it is": ({}, "nfs4", NFS4),
    "NFS of any version": ({"nas_fstype": "nfs"}, "nfs4", NFS4),
    "NFS 4.1": ({"cluster_nfs_version": 4.1}, "nfs4", NFS4),
    "NFS 3": ({"nas_fstype": "nfs", "cluster_nfs_version": 3}, "nfs3", NFS3),
    "NFS 3 of a host": ({"nas_nfs_version": "3", "cluster_nfs_version": ""}, "nfs3", NFS3),
    "NFS 3 for others": ({"nas_server_backend": "nfs3"}, "nfs3", NFS3),
    "NFS 3 not here": ({"nas_server_backend": "nfs4", "cluster_nfs_version": 3}, "nfs4", NFS4),
    "GlusterFS": ({"nas_fstype": "glusterfs"}, "glusterfs", GLUSTERFS),
    "NFS beside GlusterFS": ({"nas_fstype": "glusterfs", "nas_server_backend": "nfs4"}, "nfs4", NFS4),
    "a mistake, which role nas refuses": ({"nas_server_backend": "nfs"}, "nfs", NFS4),
}


@pytest.mark.parametrize("case", CASES)
def test_ports_by_what_the_share_is_served(case: str) -> None:
    variables, served, ports = CASES[case]
    assert backend(variables) == served
    assert nas_ports(["nas"], {"nas": variables, "gpu01": {}}) == {"nas": ports}


@pytest.mark.parametrize(
    ("options", "is_3"),
    [
        ("nfsvers=3", True),
        ("hard,vers=3.0,nodev", True),
        ("v3", True),
        ("nfsvers=4", False),
        ("vers=4.1,retrans=3", False),
        ("mountvers=3", False),
        ("", False),
    ],
)
def test_options_that_ask_for_version_3(options: str, is_3: bool) -> None:
    assert is_version_3(options) is is_3


def test_what_verify_looks_at_is_open() -> None:
    assert NFS4.tcp == [str(services.NFS.port)]
    assert GLUSTERFS.tcp[0].startswith(str(services.GLUSTERFS.port))


def test_ports_of_locks_are_those_of_the_daemons() -> None:
    assert str([str(RPCBIND), f"{STATD}:{LOCKD}"]) in default("firewall", "firewall_nfs_lock_ports")
    assert LOCKD == STATD + 1
    # None that the kernel would give to somebody else before.
    assert max(MOUNTD, STATD, LOCKD) < 32768
