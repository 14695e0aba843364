"""What roles take back: what their last receipt declares and their variables do not, and never a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.tests.unit.role_variables import render, variables

# Ids of outputs, as in a receipt.
DOCKER = [
    "file /etc/docker/daemon.json",
    "file /etc/apt/keyrings/docker.asc",
    "file /etc/apt/sources.list.d/docker.sources",
]
REGISTRY = [
    "file /etc/docker/registry",
    "file /srv/images",
    "file /etc/docker/registry/config.yml",
    "file /etc/docker/registry/htpasswd",
    "certificate /etc/docker/registry/registry.crt",
    "file /etc/docker/certs.d/a:5000/ca.crt",
    "unit docker-registry.service",
    "container gpustead-registry/registry",
    "json_keys /root/.docker/config.json",
]

CACHE = [
    "file /etc/docker/registry",
    "file /var/cache/gpustead-registry",
    "file /etc/docker/registry/cache.conf",
    "file /etc/docker/registry/cache.htpasswd",
    "file /etc/docker/registry/registry.key",
    "certificate /etc/docker/registry/registry.crt",
    "file /etc/systemd/system/gpustead-registry-cache.service",
    "unit gpustead-registry-cache.service",
    "file /etc/docker/certs.d/a:5001/ca.crt",
    "file /etc/docker/certs.d/docker.io/hosts.toml",
    "file /etc/docker/certs.d/nvcr.io/hosts.toml",
]


def former(tmp_path: Path, role: str, left: list[str], groups: dict[str, list[str]], **settings: Any) -> Any:
    """The role's variables named `__<role>_former_*` on host `a`, after a receipt with these outputs."""
    prefix = f"__{role}_former_"
    names = [name for name in variables(role) if name.startswith(prefix) and name != "__docker_former_users"]
    previous = [[kind, {"name": name, "keys": [["auths", "a:5000"]]}] for kind, name in map(str.split, left)]
    found = render(tmp_path, role, names, groups, {f"__{role}_receipt": {"previous": previous}, **settings})
    return {
        name.removeprefix(prefix): sorted(value) if isinstance(value, list) else value for name, value in found.items()
    }


def test_nothing_of_what_is_declared(tmp_path: Path) -> None:
    groups = {"gpu_nodes": ["a"], "registry": ["a"]}
    assert former(tmp_path, "docker", DOCKER, groups) == {"files": []}
    left = [name for name in REGISTRY if not name.startswith("container ")]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "registry_ca.crt").write_text("certificate\n")
    assert former(tmp_path, "registry", left, groups, registry_secrets_dir=str(secrets)) == {
        "service": False,
        "container": False,
        "caches": False,
        "files": [],
        "logins": [],
    }


def test_the_repository_of_another_source(tmp_path: Path) -> None:
    found = former(tmp_path, "docker", DOCKER, {"gpu_nodes": ["a"]}, docker_source="distribution")
    assert found["files"] == ["/etc/apt/keyrings/docker.asc", "/etc/apt/sources.list.d/docker.sources"]


def test_a_registry_that_is_a_node_of_another_one_now(tmp_path: Path) -> None:
    found = former(tmp_path, "registry", REGISTRY, {"gpu_nodes": ["a"], "registry": ["b"]})
    assert found == {
        "service": True,
        "container": True,
        "caches": False,
        "files": [
            "/etc/docker/certs.d/a:5000/ca.crt",
            "/etc/docker/registry/config.yml",
            "/etc/docker/registry/htpasswd",
            "/etc/docker/registry/registry.crt",
        ],
        "logins": ["a:5000"],
    }


def test_a_cache_that_is_a_registry_alone_now(tmp_path: Path) -> None:
    """Key and certificate are the registry's, too."""
    found = former(tmp_path, "registry", CACHE, {"gpu_nodes": ["b"], "registry": ["a"]})
    assert found["caches"]
    assert found["files"] == [
        "/etc/docker/certs.d/a:5001/ca.crt",
        "/etc/docker/certs.d/docker.io/hosts.toml",
        "/etc/docker/certs.d/nvcr.io/hosts.toml",
        "/etc/docker/registry/cache.conf",
        "/etc/docker/registry/cache.htpasswd",
        "/etc/systemd/system/gpustead-registry-cache.service",
    ]


def test_a_registry_that_is_not_cached_any_more(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "registry_ca.crt").write_text("certificate\n")
    groups = {"gpu_nodes": ["a"], "registry": ["b"], "registry_caches": ["a"]}
    found = former(tmp_path, "registry", CACHE, groups, registry_secrets_dir=str(secrets))
    assert not found["caches"]
    assert found["files"] == ["/etc/docker/certs.d/nvcr.io/hosts.toml"]
