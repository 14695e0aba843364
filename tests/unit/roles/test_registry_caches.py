"""Which cache a node has: the same for the roles that ask, and what each makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

NODES = ["01", "02", "a", "b"]
CACHES: dict[str, tuple[dict[str, list[str]], str]] = {
    "none": ({"gpu_nodes": NODES, "registry": ["r"]}, ""),
    "in turn, of three": ({"gpu_nodes": NODES, "registry": ["r"], "registry_caches": ["c1", "c2", "c3"]}, "c3"),
    "a new node at the end": ({"gpu_nodes": [*NODES, "z"], "registry": ["r"], "registry_caches": ["c1", "c2"]}, "c1"),
    "beside the registry": ({"gpu_nodes": NODES, "registry": ["c1"], "registry_caches": ["c1"]}, "c1"),
}


def values(tmp_path: Path, role: str, names: list[str], groups: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    secrets = tmp_path / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "registry_ca.crt").touch()
    return render(tmp_path, role, names, groups, {"cluster_secrets_dir": str(secrets), **more})


@pytest.mark.parametrize(("groups", "cache"), CACHES.values(), ids=CACHES)
def test_the_roles_agree_on_the_cache_of_a_node(tmp_path: Path, groups: dict[str, list[str]], cache: str) -> None:
    registry = values(
        tmp_path,
        "registry",
        ["__registry_cache_host", "__registry_logins", "__registry_client_files", "__registry_mirror_files"],
        groups,
    )
    docker = values(tmp_path, "docker", ["__docker_mirrors"], groups)
    images = values(tmp_path, "images", ["images_pull_from"], groups)
    own = groups["registry"][0]
    pulls_from = f"{cache}:5010" if cache and cache != own else f"{own}:5000"
    assert registry["__registry_cache_host"] == cache
    assert docker["__docker_mirrors"] == ([f"https://{cache}:5001"] if cache else [])
    assert images["images_pull_from"] == pulls_from
    assert registry["__registry_logins"] == list(dict.fromkeys([f"{own}:5000", pulls_from]))
    trusted = [*registry["__registry_logins"], *([f"{cache}:5001"] if cache else [])]
    assert registry["__registry_client_files"] == [f"/etc/docker/certs.d/{place}/ca.crt" for place in trusted]
    assert registry["__registry_mirror_files"] == (["/etc/docker/certs.d/docker.io/hosts.toml"] if cache else [])


def test_the_builder_keeps_to_the_registry(tmp_path: Path) -> None:
    groups = {"gpu_nodes": ["a", "b"], "registry": ["r"], "registry_caches": ["c1"]}
    assert values(tmp_path, "images", ["images_pull_from"], groups) == {"images_pull_from": "r:5000"}


def test_mirrors_of_the_site_come_first(tmp_path: Path) -> None:
    groups = {"gpu_nodes": ["a"], "registry_caches": ["c1"]}
    found = values(tmp_path, "docker", ["__docker_mirrors"], groups, docker_registry_mirrors=["https://site"])
    assert found["__docker_mirrors"] == ["https://site", "https://c1:5001"]


def test_what_is_pulled_and_what_is_removed(tmp_path: Path) -> None:
    groups = {"gpu_nodes": NODES, "registry": ["r"], "registry_caches": ["c1"]}
    board = {"workspace": {"ref": "r:5000/gpustead/x@sha256:2"}, "layers": [], "history": []}
    left = ["r:5000/gpustead/x@sha256:1", "c1:5010/gpustead/x@sha256:1", "busybox:1", "alpine:3"]
    found = values(
        tmp_path,
        "images",
        ["__images_wanted", "__images_former_extra"],
        groups,
        __images_content=board,
        __images_receipt={"previous": [["image", {"name": name}] for name in left]},
        images_extra=["alpine:3"],
    )
    assert found == {
        "__images_wanted": ["c1:5010/gpustead/x@sha256:2", "alpine:3"],
        "__images_former_extra": ["busybox:1"],
    }


def test_an_image_by_the_name_of_another_cache_goes_with_its_key(tmp_path: Path) -> None:
    """What is kept is kept by each of its names, as they are one image."""
    groups = {"gpu_nodes": NODES, "registry": ["r"], "registry_caches": ["c1", "c2"]}
    board = {
        "workspace": {"ref": "r:5000/gpustead/x@sha256:3"},
        "layers": [],
        "history": [{"key": "2", "ref": "r:5000/gpustead/x@sha256:2"}],
    }
    here = [
        f"id{n} {place}/gpustead/x:<none> {place}/gpustead/x@sha256:{n}"
        for n in "123"
        for place in ("r:5000", "c1:5010")
    ]
    found = values(
        tmp_path,
        "images",
        ["__images_superfluous"],
        groups,
        __images_content=board,
        __images_local={"stdout_lines": here},
        __images_used={"stdout_lines": []},
    )
    assert found["__images_superfluous"] == ["c1:5010/gpustead/x@sha256:1", "r:5000/gpustead/x@sha256:1"]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ({"gpu_nodes": ["01"], "registry": ["a"]}, ["IP:10.1.0.1", "DNS:a"]),
        ({"gpu_nodes": ["01"], "registry": ["r"], "registry_caches": ["a"]}, ["IP:10.1.0.2", "DNS:a"]),
        (
            {"gpu_nodes": ["01"], "registry": ["a"], "registry_caches": ["a"]},
            ["IP:10.1.0.1", "IP:10.1.0.2", "DNS:a"],
        ),
    ],
)
def test_a_host_has_one_certificate_for_all_that_it_serves(
    tmp_path: Path, groups: dict[str, list[str]], names: list[str]
) -> None:
    settings = {"cluster_registry": "10.1.0.1:5000", "cluster_address": "10.1.0.2"}
    found = values(tmp_path, "registry", ["__registry_alternative_names"], groups, **settings)
    assert found["__registry_alternative_names"] == names
