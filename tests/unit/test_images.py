"""What role images makes of its settings: layers, the announcement, and which images of a node may go."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.image_stack import parse, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.images_board import read
from ansible_collections.gpustead.cluster.tests.unit.role_variables import ROOT, render

GROUPS = {"gpu_nodes": ["a"]}
REPOSITORY = "10.1.0.5:5000/gpustead/debian12_base"


def content(value: Any) -> dict[str, str]:
    """As module slurp returns a file with this JSON."""
    return {"content": base64.b64encode(json.dumps(value).encode()).decode()}


def entry(key: str) -> dict[str, str]:
    return {"ref": f"{REPOSITORY}@sha256:{key}", "key": key}


def kept(key: str, *layers: str) -> dict[str, Any]:
    """An image of the history, with the keys of its layers."""
    return {**entry(key), "layers": [f"{REPOSITORY}:{layer}" for layer in layers]}


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


FORMER: dict[str, Any] = {
    "schema": 1,
    "workspace": entry("a" * 64),
    "layers": [row("base", "1" * 12, 7, 12.0)],
    "history": [kept("a" * 64, "1" * 12), kept("c" * 64, "3" * 12), kept("d" * 64)],
}


def test_the_first_announcement(tmp_path: Path) -> None:
    told = announcement(tmp_path)
    assert told["workspace"] == entry("b" * 64)
    assert told["history"] == [kept("b" * 64, "1" * 12, "b" * 64)]
    assert [(layer["size"], layer["seconds"]) for layer in told["layers"]] == [(7, None), (9, 3.5)]
    assert "other" not in told["layers"][0]


def test_what_was_built_before_took_what_it_took_then_and_the_oldest_image_goes(tmp_path: Path) -> None:
    told = announcement(tmp_path, FORMER)
    assert [layer["seconds"] for layer in told["layers"]] == [12.0, 3.5]
    assert [image["key"][0] for image in told["history"]] == ["b", "a", "c"]
    assert told["history"][1:] == FORMER["history"][:2]


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
    assert [image["key"] for image in told["history"]] == ["b" * 64]


def test_an_older_board_says_what_the_latest_image_stands_on(tmp_path: Path) -> None:
    older = {**FORMER, "history": [entry(letter * 64) for letter in "ac"]}
    assert read(json.dumps(older))["history"] == [kept("a" * 64, "1" * 12), kept("c" * 64)]


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


STACK = ROOT / "roles/images/files/stack"


def stack(tmp_path: Path, **settings: Any) -> list[dict[str, Any]]:
    """The layers of our own stack under some settings, on a builder where all of their files have been brought."""
    build = tmp_path / "build"
    if not build.exists():
        (build / "wheelhouse").mkdir(parents=True)
        (build / "stack").symlink_to(STACK)
    settings = {"images_build_dir": str(build), "images_builder": "a", **settings}
    found: list[dict[str, Any]] = render(tmp_path, "images", ["__images_layers"], GROUPS, settings)["__images_layers"]
    return found


def keys(tmp_path: Path, layers: list[dict[str, Any]]) -> dict[str, str]:
    contexts = {"wheelhouse": str(tmp_path / "build/wheelhouse")}
    return {item.layer.name: item.key for item in plan(parse(layers), "debian:12", "sha256:1", contexts, "r")}


CUDA = {"images_deepspeed_ops": ["FUSED_ADAM", "CPU_ADAM"], "images_cuda_architectures": ["8.0", "9.0"]}
CARDS = {"gpus": [{"compute_capability": one} for one in ("9.0", "8.0", "9.0", None)]}
MIXED = {"images_deepspeed_ops": ["FUSED_ADAM"], "__images_gpus_content": content(CARDS)}
USERS = [
    {"name": "bob", "uid": 1001, "groups": ["docker", "ml"], "ssh_keys": ["k"]},
    {"name": "eve", "uid": 1002, "gid": 7},
]
ABOVE_TORCH = {"torch", "deepspeed", "workspace"}
ABOVE_DEEPSPEED = {"deepspeed", "workspace"}


@pytest.mark.parametrize(
    ("settings", "layer", "args", "new"),
    [
        ({"images_torch_version": "2.12.1"}, "torch", {"torch_version": "2.12.1"}, ABOVE_TORCH),
        ({"images_torch_index": ""}, "torch", {"torch_index": ""}, ABOVE_TORCH),
        (CUDA, "deepspeed", {"ops": "FUSED_ADAM CPU_ADAM", "cuda_architectures": "8.0;9.0"}, ABOVE_DEEPSPEED),
        (MIXED, "deepspeed", {"ops": "FUSED_ADAM", "cuda_architectures": "8.0;9.0"}, ABOVE_DEEPSPEED),
        (
            {"images_flash_attn_version": "2.8.3", "images_cuda_architectures": ["8.0"]},
            "deepspeed",
            {"flash_attn_version": "2.8.3", "cuda_architectures": "8.0"},
            ABOVE_DEEPSPEED,
        ),
        # Where nothing is compiled, GPUs do not matter.
        ({"images_cuda_architectures": ["8.0"]}, "deepspeed", {"cuda_architectures": ""}, set()),
        ({"__images_gpus_content": content(CARDS)}, "deepspeed", {"cuda_architectures": ""}, set()),
        ({"images_gradio_version": "6.0.0"}, "workspace", {"gradio_version": "6.0.0"}, {"workspace"}),
        ({"images_bake_users": USERS}, "users", {"accounts": "bob:1001:1001:docker,ml eve:1002:7:"}, {"users"}),
        ({"images_tools": ["zsh"]}, "tools", {"tools": "zsh"}, {"tools"}),
    ],
)
def test_a_setting_reaches_its_layer_and_builds_it_and_those_above_anew(
    tmp_path: Path, settings: dict[str, Any], layer: str, args: dict[str, str], new: set[str]
) -> None:
    before, after = stack(tmp_path), stack(tmp_path, **settings)
    given = next(item["args"] for item in after if item["name"] == layer)
    assert {name: given[name] for name in args} == args
    old = keys(tmp_path, before)
    assert {name for name, key in keys(tmp_path, after).items() if key != old.get(name)} == new


def test_a_changed_lock_builds_what_installs_python_packages_anew(tmp_path: Path) -> None:
    layers = stack(tmp_path)
    before = keys(tmp_path, layers)
    (tmp_path / "build/wheelhouse/python.lock").write_text("torch==2.13.0")
    assert {name for name, key in keys(tmp_path, layers).items() if key != before[name]} == ABOVE_TORCH


def test_each_layer_is_given_the_arguments_that_its_dockerfile_takes(tmp_path: Path) -> None:
    layers = stack(tmp_path, images_tools=["zsh"], images_bake_users=USERS)
    for layer in layers:
        taken = re.findall(r"(?m)^ARG (\w+)", (STACK / layer["name"] / "Dockerfile").read_text())
        assert set(layer.get("args", {})) == set(taken) - {"base"}, layer["name"]
    assert [layer["name"] for layer in layers][-2:] == ["tools", "users"]


@pytest.mark.parametrize("layer", sorted(path.name for path in STACK.iterdir()))
def test_each_layer_stands_on_its_parent_and_copies_what_it_has(layer: str) -> None:
    text = (STACK / layer / "Dockerfile").read_text()
    assert re.findall(r"(?m)^FROM (.*)$", text) == ["${base}" if layer == "base" else "parent"]
    copied = re.findall(r"(?m)^COPY (?:--chmod=\d+ )?([^-\n].*) \S+$", text)
    assert all((STACK / layer / file).exists() for files in copied for file in files.split())


def test_the_lock_lies_beside_the_wheels(tmp_path: Path) -> None:
    settings = {"images_stack": [{"name": "base"}], "images_python_lock": "/srv/lock.txt", "images_build_dir": "/b"}
    declared = render(tmp_path, "images", ["__images_declared"], GROUPS, settings)["__images_declared"]
    assert "/b/wheelhouse/python.lock" in declared


PLAYBOOK = """
- hosts: a
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}", ansible_connection: local}
  tasks:
    - ansible.builtin.include_role: {name: gpustead.cluster.images, tasks_from: "{{ item }}"}
      loop: [preflight.yml, architectures.yml]
"""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a capability that is none": (
        {"images_cuda_architectures": ["8.0", "sm_90"]},
        "images_cuda_architectures has sm_90: expected",
    ),
    "a uid twice": (
        {"images_bake_users": [{"name": "bob", "uid": 1001}, {"name": "eve", "uid": 1001}]},
        "images_bake_users has bob 1001, eve 1001 (name and uid)",
    ),
    "an account without a uid": (
        {"images_bake_users": [{"name": "bob"}]},
        "images_bake_users has bob ? (name and uid)",
    ),
    "a lock that is not there": ({"images_python_lock": "/no/lock"}, "images_python_lock is '/no/lock', no file"),
    "no GPU to compile for": ({"images_deepspeed_ops": ["CPU_ADAM"]}, "gpus.json on a names no GPU to compile for"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    settings, words = REFUSED[case]
    variables = {
        "images_users": [{"name": "ada", "uid": 1500}],
        "images_registry": "10.1.0.5:5000",
        "images_gpus_file": str(tmp_path / "gpus.json"),
        **settings,
    }
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", "a,", "-e", json.dumps(variables), f"{tmp_path}/play.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split()) + " ".join(done.stdout.split())


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
    # And the directories: one that is left behind counts, too.
    assert {"/b/stack/base", "/b/sources/ours", "/b/sources/ours/source", "/b/sources/ours/source/package"} <= {
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


def test_the_registry_keeps_what_is_kept_with_its_layers_and_what_runs(tmp_path: Path) -> None:
    settings = {
        "__images_board_content": content({**FORMER, "workspace": entry("e" * 64)}),
        "__images_used": {"stdout_lines": ["debian:12"]},
    }
    found = render(tmp_path, "images", ["__images_registry_kept"], GROUPS, settings)["__images_registry_kept"]
    digests = {f"{REPOSITORY}@sha256:{letter * 64}" for letter in "acde"}
    assert set(found) == digests | {f"{REPOSITORY}:{'1' * 12}", f"{REPOSITORY}:{'3' * 12}", "debian:12"}


@pytest.mark.parametrize(("groups", "prunes"), [(GROUPS, False), ({**GROUPS, "registry": ["b"]}, True)])
def test_a_registry_of_somebody_else_is_left_alone(tmp_path: Path, groups: dict[str, list[str]], prunes: bool) -> None:
    found = render(tmp_path, "images", ["images_registry_prune"], groups, {})
    assert found["images_registry_prune"] is prunes
