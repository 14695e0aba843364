"""What role images makes of its settings: layers, the announcement, and which images of a node may go."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.images_board import read
from ansible_collections.gpustead.cluster.tests.unit.role_variables import ROOT, render

GROUPS = {"gpu_nodes": ["a"]}
REPOSITORY = "10.1.0.5:5000/gpustead/debian12_base"


def content(value: Any) -> dict[str, str]:
    """As module slurp returns a file with this JSON."""
    return {"content": base64.b64encode(json.dumps(value).encode()).decode()}


def entry(key: str) -> dict[str, str]:
    return {"ref": f"{REPOSITORY}@sha256:{key}", "key": key}


def row(name: str, key: str, size: int | None, seconds: float | None) -> dict[str, Any]:
    return {
        "name": name, "chain": name, "key": key, "ref": f"{REPOSITORY}:{key}", "size": size, "seconds": seconds,
        "other": "not announced",
    }  # fmt: skip


def announcement(tmp_path: Path, former: Any = None, **settings: Any) -> Any:
    built = {**entry("b" * 64), "layers": [row("base", "1" * 12, 7, None), row("top", "b" * 64, 9, 3.5)]}
    read = {} if former is None else content(former)
    given = {"__images_former_content": read, "__images_built": built, **settings}
    return render(tmp_path, "images", ["__images_announcement"], GROUPS, given)["__images_announcement"]


FORMER = {
    "schema": 1,
    "workspace": entry("a" * 64),
    "layers": [row("base", "1" * 12, 7, 12.0)],
    "history": [entry(letter * 64) for letter in "acd"],
}


def test_the_first_announcement(tmp_path: Path) -> None:
    told = announcement(tmp_path)
    assert told["workspace"] == entry("b" * 64)
    assert told["history"] == [entry("b" * 64)]
    assert [(layer["size"], layer["seconds"]) for layer in told["layers"]] == [(7, None), (9, 3.5)]
    assert "other" not in told["layers"][0]


def test_what_was_built_before_took_what_it_took_then_and_the_oldest_image_goes(tmp_path: Path) -> None:
    told = announcement(tmp_path, FORMER)
    assert [layer["seconds"] for layer in told["layers"]] == [12.0, 3.5]
    assert [kept["key"][0] for kept in told["history"]] == ["b", "a", "c"]


def test_a_second_run_announces_the_same(tmp_path: Path) -> None:
    told = announcement(tmp_path, FORMER)
    assert announcement(tmp_path, told) == told


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"history": 1, "layers": {}, "workspace": []}', "{}\ntampered"]
)
def test_a_damaged_announcement_is_none(text: str) -> None:
    assert read(text) == {"schema": 1, "workspace": {}, "layers": [], "history": []}


def test_a_damaged_announcement_is_written_anew(tmp_path: Path) -> None:
    told = announcement(tmp_path, None, __images_former_content={"content": base64.b64encode(b"{}\nx").decode()})
    assert told["history"] == [entry("b" * 64)]


def test_an_earlier_image_is_announced_by_the_first_digits_of_its_key(tmp_path: Path) -> None:
    told = announcement(tmp_path, FORMER, images_tag="ccc")
    assert told == {**FORMER, "workspace": entry("c" * 64)}


def test_projects_and_tools_are_layers_on_top(tmp_path: Path) -> None:
    git = "https://git.example.org/theirs.git#" + "0" * 40
    found = render(
        tmp_path, "images", ["__images_layers", "__images_sources"], GROUPS,
        {
            "images_stack": [{"name": "base"}, {"name": "docs", "contexts": {"pages": "/srv/pages"}}],
            "images_tools": ["zsh", "ffmpeg"],
            "images_projects": [{"name": "ours", "source": "/srv/ours"}, {"name": "theirs", "source": git}],
            "images_build_dir": "/b",
        },
    )  # fmt: skip
    layers = {layer["name"]: layer for layer in found["__images_layers"]}
    assert list(layers) == ["base", "docs", "tools", "ours", "theirs"]
    assert layers["tools"]["args"] == {"tools": "zsh ffmpeg"}
    assert layers["docs"]["contexts"] == {"pages": "/b/sources/docs/pages"}
    assert layers["ours"] == {
        "name": "ours", "context": "/b/stack/ours", "args": {"project": "ours"},
        "contexts": {"source": "/b/sources/ours/source"},
    }  # fmt: skip
    assert layers["theirs"]["contexts"] == {"source": git}
    assert [source["path"] for source in found["__images_sources"]] == ["/srv/pages", "/srv/ours"]


def test_files_of_all_layers_and_sources_are_declared(tmp_path: Path) -> None:
    (tmp_path / "ours/package").mkdir(parents=True)
    (tmp_path / "ours/package/__init__.py").touch()
    settings = {
        "images_stack": [{"name": "base"}],
        "images_projects": [{"name": "ours", "source": str(tmp_path / "ours")}],
        "images_build_dir": "/b",
    }
    declared = render(tmp_path, "images", ["__images_declared"], GROUPS, settings)["__images_declared"]
    assert {"/b/stack/base/Dockerfile", "/b/stack/ours/Dockerfile", "/b/sources/ours/source/package/__init__.py"} <= {
        *declared
    }
    assert (ROOT / "roles/images/files/stack/project/Dockerfile").is_file()


def test_only_what_is_neither_kept_nor_run_is_superfluous(tmp_path: Path) -> None:
    ids = {letter: f"sha256:{letter * 4}" for letter in "abcxyz"}
    lines = [
        f"{ids['a']} {REPOSITORY}:<none> {REPOSITORY}@sha256:{'a' * 64}",  # announced
        f"{ids['c']} {REPOSITORY}:<none> {REPOSITORY}@sha256:{'c' * 64}",  # kept
        f"{ids['b']} {REPOSITORY}:{'1' * 12} {REPOSITORY}@sha256:{'1' * 64}",  # a layer of the builder
        f"{ids['b']} {REPOSITORY}:stable {REPOSITORY}@sha256:{'1' * 64}",  # by another name
        f"{ids['x']} {REPOSITORY}:<none> {REPOSITORY}@sha256:{'e' * 64}",  # a container has it
        f"{ids['y']} {REPOSITORY}:<none> {REPOSITORY}@sha256:{'f' * 64}",
        f"{ids['z']} {REPOSITORY}:{'2' * 12} {REPOSITORY}@sha256:{'9' * 64}",
        f"{ids['z']} {REPOSITORY}:mine {REPOSITORY}@sha256:{'9' * 64}",  # somebody's own tag
    ]
    settings = {
        "__images_board_content": content(FORMER),
        "__images_local": {"stdout_lines": lines},
        "__images_used": {"stdout_lines": [f"{REPOSITORY}@sha256:{'e' * 64}", "debian:12"]},
    }
    found = render(tmp_path, "images", ["__images_superfluous"], GROUPS, settings)["__images_superfluous"]
    assert found == [f"{REPOSITORY}:{'2' * 12}", f"{REPOSITORY}@sha256:{'f' * 64}"]
