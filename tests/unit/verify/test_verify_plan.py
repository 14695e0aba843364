# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verify expects of a host follows from its variables and its groups alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import ports, ports_of
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_plan import plan

USERS = [
    {"name": "ada", "uid": 1500, "ssh_keys": ["k"]},
    {"name": "bob", "uid": 1501, "gid": 1600, "groups": ["x"]},
]
SITE: dict[str, Any] = {"cluster_network": ["10.20.0.0/24"], "cluster_users": USERS, "nas_source": "10.20.0.5:/nas"}
MESH = {"name": "gpustead-mesh", "services": {"mesh": 0}, "owner": "ada", "image": ""}
WORKSPACE = {
    "name": "gpustead-workspace",
    "services": ports(),
    "owner": "ada",
    "gpus": None,
    "image": "",
}
USUAL: dict[str, Any] = {
    "node": True,
    "owner": "ada",
    "accounts": [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501, "gid": 1600}],
    "service": {"uid": 941, "gid": 941},
    "nas_path": "/mnt/nas",
    "nas_source": "10.20.0.5:/nas",
    "nas_fstype": "nfs4",
    "nodes": ["a", "b"],
    "image_file": "/etc/gpustead/image",
    "variant": "",
    "projects": [MESH, WORKSPACE],
    "listening": {"the mesh's sshd": 2222},
    "gpus_file": "/etc/gpustead/gpus.json",
    "gpus_required": True,
    "state_dir": "/var/lib/gpustead",
}
NODES = {"all": ["a", "b", "n"], "gpu_nodes": ["a", "b"]}
HUB = {"name": "docker.io", "url": "https://registry-1.docker.io", "port": 5001}
OTHER = {**USUAL, "node": False, "projects": []}
OF_BOB = {
    "cluster_owner": "bob",
    "workspace_instances": [{"owner": "ada", "profile": "local"}, {"owner": "bob", "gpus": [0, "GPU-1"]}],
    "workspace_image": "own:1",
    "ssh_mesh_image": "mesh:1",
    "ssh_mesh_port": "2022",
    "cluster_workspace_port_range": "20000:20999",
}
PATHS = {
    "cluster_nas_path": "/data",
    "cluster_config_dir": "/opt/c",
    "cluster_state_dir": "/opt/s",
    "cluster_service_account": {"name": "x", "uid": 950, "gid": 951},
    "nvidia_required": False,
    "nas_fstype": "nfs",
    "nas_server_backend": "glusterfs",
}
# Host, its variables, groups: what is expected, as what it says beside USUAL.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, list[str]], dict[str, Any]]] = {
    "a node": ("a", SITE, NODES, USUAL),
    "a node with the registry": (
        "a",
        SITE,
        {**NODES, "registry": ["a"]},
        {**USUAL, "listening": {"the mesh's sshd": 2222, "the registry": 5000}},
    ),
    "a node with another image": (
        "b",
        {**SITE, "images_variants": [{"name": "v", "nodes": "volta"}, {"name": "n", "nodes": "none"}]},
        {**NODES, "volta": ["b"]},
        {**USUAL, "variant": "v"},
    ),
    "an NFS server": (
        "n",
        SITE,
        {**NODES, "nas_server": ["n"]},
        {**OTHER, "listening": {"the NAS server": 2049}},
    ),
    "a server of GlusterFS with registry and caches": (
        "n",
        {
            **SITE,
            "nas_fstype": "glusterfs",
            "cluster_cached_registries": [HUB, {**HUB, "name": "nvcr.io", "port": 5002}],
        },
        {**NODES, "nas_server": ["n"], "registry": ["n"], "registry_caches": ["n", "b"]},
        {
            **OTHER,
            "nas_fstype": "glusterfs",
            "listening": {
                "the NAS server": 24007,
                "the registry": 5000,
                "the cache of docker.io": 5001,
                "the cache of nvcr.io": 5002,
            },
        },
    ),
    "caches by default": (
        "n",
        SITE,
        {**NODES, "registry_caches": ["n"]},
        {**OTHER, "listening": {"the cache of docker.io": 5001}},
    ),
    "no caches": (
        "n",
        {**SITE, "cluster_cached_registries": []},
        {**NODES, "registry_caches": ["n"]},
        {**OTHER, "listening": {}},
    ),
    "several workspaces": (
        "a",
        {**SITE, **OF_BOB},
        NODES,
        {
            **USUAL,
            "owner": "bob",
            "listening": {"the mesh's sshd": "2022"},
            "projects": [
                {**MESH, "owner": "bob", "image": "mesh:1"},
                {
                    "name": "gpustead-workspace-ada",
                    "services": ports_of(1500, "20000:20999"),
                    "owner": "ada",
                    "gpus": None,
                    "image": "own:1",
                },
                {**WORKSPACE, "owner": "bob", "gpus": [0, "GPU-1"], "image": "own:1"},
            ],
        },
    ),
    "other places": (
        "a",
        {**SITE, **PATHS},
        {**NODES, "nas_server": ["a"]},
        {
            **USUAL,
            "service": {"uid": 950, "gid": 951},
            "nas_path": "/data",
            "nas_fstype": "nfs",
            "image_file": "/opt/c/image",
            "gpus_file": "/opt/c/gpus.json",
            "state_dir": "/opt/s",
            "gpus_required": False,
            "listening": {"the mesh's sshd": 2222, "the NAS server": 24007},
        },
    ),
    "no accounts, no node": (
        "n",
        {},
        {"all": ["n"], "registry": ["n"]},
        {**OTHER, "owner": "", "accounts": [], "nas_source": "", "nodes": [], "listening": {"the registry": 5000}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_plans(case: str) -> None:
    host, variables, groups, expected = CASES[case]
    assert asdict(plan(host, variables, groups)) == expected


def test_a_workspace_that_cannot_be_is_an_error() -> None:
    with pytest.raises(GpusteadError, match="'eve' is no account"):
        plan("a", {**SITE, "workspace_instances": [{"owner": "eve"}]}, NODES)
