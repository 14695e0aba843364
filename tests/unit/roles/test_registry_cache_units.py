"""Which cache a node has: the same for the roles that ask, and what each makes of it."""

from __future__ import annotations

import base64
import json
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
    (secrets / "registry_ca.crt").write_text("certificate\n")
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


def image(place: str, digit: str) -> str:
    return f"{place}/gpustead/x@sha256:{digit * 64}"


def record(used: str, *earlier: str) -> dict[str, str]:
    """As module share_read_info returns the record of the images in use."""
    history = [{"key": digit * 64, "ref": image("r:5000", digit), "layers": []} for digit in earlier]
    workspace = {"key": used * 64, "ref": image("r:5000", used)}
    text = json.dumps({"schema": 1, "workspace": workspace, "layers": [], "history": history})
    return {"content": base64.b64encode(text.encode()).decode()}


def test_what_is_pulled_and_what_is_removed(tmp_path: Path) -> None:
    groups = {"gpu_nodes": NODES, "registry": ["r"], "registry_caches": ["c1"]}
    left = [image("r:5000", "1"), image("c1:5010", "1"), "busybox:1", "alpine:3"]
    found = values(
        tmp_path,
        "images",
        ["__images_plan.wanted", "__images_plan.former_extra"],
        groups,
        __images_shared_content=record("2"),
        __images_receipt={"previous": [["image", {"name": name}] for name in left]},
        images_extra=["alpine:3"],
    )
    assert found == {
        "__images_plan.wanted": [image("c1:5010", "2"), "alpine:3"],
        "__images_plan.former_extra": ["busybox:1"],
    }


def test_an_image_by_the_name_of_another_cache_goes_with_its_key(tmp_path: Path) -> None:
    """What is kept is kept by each of its names, as they are one image."""
    groups = {"gpu_nodes": NODES, "registry": ["r"], "registry_caches": ["c1", "c2"]}
    here = [f"id{n} {place}/gpustead/x:<none> {image(place, n)}" for n in "123" for place in ("r:5000", "c1:5010")]
    found = values(
        tmp_path,
        "images",
        ["__images_plan.superfluous"],
        groups,
        __images_shared_content=record("3", "2"),
        __images_local={"stdout_lines": here},
        __images_used={"stdout_lines": []},
    )
    assert found["__images_plan.superfluous"] == [image("c1:5010", "1"), image("r:5000", "1")]


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
