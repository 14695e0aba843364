"""The stack of layers: keys, bake file, and what is said when a layer does not build."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.image_stack import (
    Built,
    Layer,
    bake_file,
    build,
    failed_step,
    have_base,
    keys,
    parse,
    push,
    repo_digest,
)

FIXTURES = Path(__file__).parent / "fixtures/buildx"
REPOSITORY = "10.1.0.5:5000/gpustead"


@pytest.fixture
def stack(tmp_path: Path) -> list[dict[str, Any]]:
    """Three layers; the last one uses the context `wheels`."""
    for name, text in {"base": "ARG base\n", "torch": "FROM parent\n", "top": "RUN --mount=from=wheels x\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
    (tmp_path / "wheels").mkdir()
    return [{"name": name, "context": str(tmp_path / name)} for name in ("base", "torch", "top")]


def made(stack: list[dict[str, Any]], base: str = "sha256:1") -> dict[str, Built]:
    wheels = str(Path(stack[0]["context"]).parent / "wheels")
    return {item.layer.name: item for item in keys(parse(stack), base, {"wheels": wheels}, REPOSITORY)}


def test_each_layer_stands_on_the_one_before(stack: list[dict[str, Any]]) -> None:
    assert [layer.parent for layer in parse(stack)] == ["", "base", "torch"]
    stack[2]["parent"] = "base"
    assert [layer.parent for layer in parse(stack)] == ["", "base", "base"]


def spoil_name(stack: list[dict[str, Any]]) -> None:
    stack[0]["name"] = "Base Image"


def spoil_twice(stack: list[dict[str, Any]]) -> None:
    stack[1]["name"] = "base"


def spoil_cycle(stack: list[dict[str, Any]]) -> None:
    stack[1]["parent"] = "top"


def spoil_context(stack: list[dict[str, Any]]) -> None:
    stack[2]["context"] = "/nowhere"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_name, "'Base Image'"),
        (spoil_twice, "two layers named 'base'"),
        (spoil_cycle, "'torch' stands on 'top'"),
        (spoil_context, "'top': /nowhere/Dockerfile"),
        (list.clear, "no layer"),
    ],
)
def test_bad_stacks_are_refused(
    stack: list[dict[str, Any]], spoil: Callable[[list[dict[str, Any]]], None], words: str
) -> None:
    spoil(stack)
    with pytest.raises(GpusteadError, match=words):
        parse(stack)


def change_file(stack: list[dict[str, Any]]) -> None:
    Path(stack[1]["context"], "Dockerfile").write_text("FROM parent\nRUN true\n")


def change_mode(stack: list[dict[str, Any]]) -> None:
    path = Path(stack[1]["context"], "Dockerfile")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def new_file(stack: list[dict[str, Any]]) -> None:
    Path(stack[1]["context"], "new").write_text("")


def change_args(stack: list[dict[str, Any]]) -> None:
    stack[1]["args"] = {"version": 2}


def change_wheels(stack: list[dict[str, Any]]) -> None:
    (Path(stack[0]["context"]).parent / "wheels/a.whl").write_text("x")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (change_file, {"torch", "top"}),
        (change_mode, {"torch", "top"}),
        (new_file, {"torch", "top"}),
        (change_args, {"torch", "top"}),
        (change_wheels, {"top"}),
        (lambda stack: None, set()),
    ],
)
def test_a_change_makes_new_keys_for_its_layer_and_those_above(
    stack: list[dict[str, Any]], change: Callable[[list[dict[str, Any]]], None], changed: set[str]
) -> None:
    before = made(stack)
    change(stack)
    after = made(stack)
    assert {name for name in before if before[name].key != after[name].key} == changed


def test_a_new_base_makes_everything_new(stack: list[dict[str, Any]]) -> None:
    before, after = made(stack), made(stack, base="sha256:2")
    assert all(before[name].key != after[name].key for name in before)


def test_the_bake_file_links_parents_and_tags_by_key(stack: list[dict[str, Any]]) -> None:
    built = made(stack)
    bake = json.loads(bake_file(list(built.values()), "debian:12", {"wheels": "/w"}, {"http_proxy": "http://p"}))
    assert bake["group"]["default"]["targets"] == ["base", "torch", "top"]
    assert bake["target"]["base"]["args"] == {"base": "debian:12", "http_proxy": "http://p"}
    assert bake["target"]["top"]["contexts"] == {"parent": "target:torch", "wheels": "/w"}
    assert bake["target"]["top"]["tags"] == [f"{REPOSITORY}/top:{built['top'].key[:12]}"]


@pytest.mark.parametrize(
    ("capture", "expected"),
    [("copy_in_parent", "layer 'a' at 'COPY nothing /'"), ("run_in_child", "layer 'c' at 'RUN echo hello &&")],
)
def test_a_failed_build_names_layer_and_instruction(tmp_path: Path, capture: str, expected: str) -> None:
    output = (FIXTURES / f"{capture}.txt").read_text()
    layers = []
    for name, text in {"a": "FROM scratch\nCOPY nothing /\n", "c": "FROM parent\nRUN echo hello && no\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
        layers.append(Layer(name, str(tmp_path / name)))
    assert failed_step(output, layers).startswith(expected)
    with pytest.raises(GpusteadError, match=r"does not build: .*failed to solve"):
        build(lambda argv: (1, "", output), "bake.json", layers)


def test_output_without_a_step_still_gives_a_reason() -> None:
    with pytest.raises(GpusteadError, match="the stack does not build: no space left"):
        build(lambda argv: (1, "", "no space left on device"), "bake.json", [])


class Docker:
    """The docker command with a store of images: reference to id."""

    def __init__(
        self, store: dict[str, str], digests: Sequence[str] = (), archive: dict[str, str] | None = None
    ) -> None:
        self.store, self.digests, self.archive = store, list(digests), archive or {}

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[1] == "load":
            self.store.update(self.archive)
            return 0, "", ""
        if argv[1] in ("pull", "push"):
            return 1, "", "denied: wrong password"
        if argv[-1] not in self.store:
            return 1, "", "No such image"
        return 0, json.dumps(self.digests) if "RepoDigests" in argv[4] else self.store[argv[-1]], ""


def test_the_base_is_loaded_from_its_archive_when_it_cannot_be_pulled() -> None:
    assert have_base(Docker({}, archive={"b:1": "sha256:b"}), "b:1", "/b.tar") == "sha256:b"
    with pytest.raises(GpusteadError, match="base image 'b:1' is not to be had: denied"):
        have_base(Docker({}), "b:1", "")


def test_a_digest_is_that_of_the_own_registry() -> None:
    docker = Docker({"r:5000/g/top:k": "i"}, ["other/top@sha256:1", "r:5000/g/top@sha256:2"])
    assert repo_digest(docker, "r:5000/g/top:k") == "r:5000/g/top@sha256:2"
    assert repo_digest(docker, "r:5000/g/none:k") == ""


def test_a_push_that_fails_says_why() -> None:
    with pytest.raises(GpusteadError, match="could not be pushed: denied: wrong password"):
        push(Docker({"r/top:k": "i"}), "r/top:k")
