"""The stack of layers: order, names, keys, bake file."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import (
    Inputs,
    Layer,
    Planned,
    bake_file,
    base_name,
    check_proxies,
    parse,
    plan,
    to_build,
    wanted,
)

REPOSITORY = "10.1.0.5:5000/gpustead"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def stack(tmp_path: Path) -> list[dict[str, Any]]:
    """Three layers; the last one uses the context `wheels`."""
    for name, text in {"base": "ARG base\n", "torch": "FROM parent\n", "top": "RUN --mount=from=wheels x\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
    (tmp_path / "wheels").mkdir()
    return [{"name": name, "context": str(tmp_path / name)} for name in ("base", "torch", "top")]


def made(stack: list[dict[str, Any]], base: str = "sha256:1") -> dict[str, Planned]:
    wheels = str(Path(stack[0]["context"]).parent / "wheels")
    planned = plan(parse(stack), "debian:12", base, {"wheels": wheels}, REPOSITORY)
    return {item.layer.name: item for item in planned}


def test_each_layer_stands_on_the_one_before(stack: list[dict[str, Any]]) -> None:
    assert [layer.parent for layer in parse(stack)] == ["", "base", "torch"]
    stack[2]["parent"] = "base"
    assert [layer.parent for layer in parse(stack)] == ["", "base", "base"]


def spoil_name(stack: list[dict[str, Any]]) -> None:
    stack[0]["name"] = "Base Image"


def spoil_twice(stack: list[dict[str, Any]]) -> None:
    stack[1]["name"] = "base"


def spoil_parent(stack: list[dict[str, Any]]) -> None:
    stack[1]["parent"] = "ssh"


def spoil_cycle(stack: list[dict[str, Any]]) -> None:
    stack[1]["parent"] = "top"


def spoil_itself(stack: list[dict[str, Any]]) -> None:
    stack[2]["parent"] = "top"


def spoil_tag(stack: list[dict[str, Any]]) -> None:
    stack[2]["tags"] = ["no spaces"]


def spoil_commit(stack: list[dict[str, Any]]) -> None:
    stack[2]["contexts"] = {"source": "https://git.example.org/ours.git#main"}


def spoil_source(stack: list[dict[str, Any]]) -> None:
    stack[2]["contexts"] = {"source": "/nowhere"}


def spoil_dockerfile(stack: list[dict[str, Any]]) -> None:
    path = Path(stack[2]["context"], "Dockerfile")
    path.unlink()
    path.symlink_to("/etc/shadow")


def spoil_context(stack: list[dict[str, Any]]) -> None:
    stack[2]["context"] = "/nowhere"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_name, "'Base Image'"),
        (spoil_twice, "two layers named 'base'"),
        (spoil_parent, "'torch' stands on 'ssh', which is not in the stack: expected one of base, top"),
        (spoil_cycle, "a cycle: torch -> top -> torch"),
        (spoil_itself, "a cycle: top -> top"),
        (spoil_tag, "tag 'no spaces' of layer 'top'"),
        (spoil_commit, "'top': source is 'https://git.example.org/ours.git#main'"),
        (spoil_source, "'top': source is '/nowhere'"),
        (spoil_context, "'top': /nowhere/Dockerfile"),
        (spoil_dockerfile, "Dockerfile: expected a file, and no link"),
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


def change_commit(stack: list[dict[str, Any]]) -> None:
    stack[1]["contexts"] = {"source": f"https://git.example.org/ours.git#{COMMIT}"}


def change_platform(stack: list[dict[str, Any]]) -> None:
    stack[1]["platforms"] = ["linux/arm64"]


def change_wheels(stack: list[dict[str, Any]]) -> None:
    (Path(stack[0]["context"]).parent / "wheels/a.whl").write_text("x")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (change_file, {"torch", "top"}),
        (change_mode, {"torch", "top"}),
        (new_file, {"torch", "top"}),
        (change_args, {"torch", "top"}),
        (change_commit, {"torch", "top"}),
        (change_platform, {"torch", "top"}),
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


def test_layers_come_after_what_they_stand_on(stack: list[dict[str, Any]]) -> None:
    stack[0]["parent"], stack[1]["parent"] = "torch", ""
    assert [layer.name for layer in parse(stack)] == ["torch", "base", "top"]
    stack[2]["parent"] = "torch"
    assert wanted(parse(stack), "top") == ["base", "top"]


def test_names_come_from_the_chain(stack: list[dict[str, Any]]) -> None:
    item = made(stack)["torch"]
    assert item.chain == "debian12_base_torch"
    assert item.ref == f"{REPOSITORY}/debian12_base_torch:{item.key[:12]}"


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("nvidia/cuda:12.8.1-devel-ubuntu24.04", "cuda1281-ubuntu2404"),
        ("docker.io/nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04", "cuda1281-cudnn-ubuntu2404"),
        ("debian:12", "debian12"),
        ("debian:bookworm-slim", "debian-bookworm-slim"),
        ("10.0.0.1:5000/lab/Debian:Trixie", "debian-trixie"),
        ("debian", "debian"),
        (f"debian@sha256:{COMMIT}", "debian"),
        ("host:5000/__", "base"),
    ],
)
def test_a_base_has_a_short_name(base: str, name: str) -> None:
    assert base_name(base) == name


def test_the_bake_file_links_parents_and_tags_by_key(stack: list[dict[str, Any]]) -> None:
    planned = made(stack)
    inputs = Inputs("debian:12", {"wheels": "/w"}, {"http_proxy": "http://p"}, {"token": "/run/t"}, {"output": ["x"]})
    bake = json.loads(bake_file(list(planned.values()), ["base", "torch", "top"], inputs))
    assert bake["group"]["default"]["targets"] == ["base", "torch", "top"]
    assert bake["target"]["base"]["args"] == {"base": "debian:12", "http_proxy": "http://p"}
    assert bake["target"]["top"]["contexts"] == {"parent": "target:torch", "wheels": "/w"}
    assert bake["target"]["top"]["tags"] == [planned["top"].ref]
    assert bake["target"]["top"]["secret"] == ["id=token,src=/run/t"]
    assert bake["target"]["top"]["output"] == ["x"]
    assert bake["target"]["top"]["labels"]["org.gpustead.chain"] == "debian12_base_torch_top"
    assert "org.gpustead.torch" not in bake["target"]["top"]["labels"]


@pytest.mark.parametrize(
    ("index", "label"),
    [
        ("https://m/whl/cu126", "2.13.0 cu126"),
        ("https://m/whl/cpu/", "2.13.0 cpu"),
        ("https://m/simple", None),
        ("", None),
    ],
)
def test_an_image_says_which_torch_it_has(tmp_path: Path, index: str, label: str | None) -> None:
    (tmp_path / "Dockerfile").write_text("FROM parent\n")
    args = {"torch_version": "2.13.0", "torch_index": index}
    planned = plan([Layer("torch", str(tmp_path), args)], "debian:12", "sha256:1", {}, "r")
    bake = json.loads(bake_file(planned, ["torch"], Inputs("debian:12")))
    assert bake["target"]["torch"]["labels"].get("org.gpustead.torch") == label


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"args": {"torch_index": "https://u:hunter2@index/whl"}}, "argument torch_index"),
        ({"args": {"options": "--index https://hunter2@index/whl"}}, "argument options"),
        ({"contexts": {"source": f"https://hunter2@github.com/a/b.git#{COMMIT[:40]}"}}, "source source"),
    ],
)
def test_passwords_that_the_image_would_have_are_refused(
    stack: list[dict[str, Any]], change: dict[str, Any], remedy: str
) -> None:
    stack[1].update(change)
    with pytest.raises(GpusteadError) as error:
        parse(stack)
    assert remedy in str(error.value) and "images_build_secrets" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("ARG http_proxy", True),
        ("arg HTTPS_PROXY=x", True),
        ("ENV A=b \\\n    no_proxy=c", True),
        ("RUN echo ${http_proxy}", False),
        ("# ARG http_proxy", False),
        ("ARG http_proxy_port", False),
    ],
)
def test_a_dockerfile_does_not_declare_proxies(stack: list[dict[str, Any]], text: str, refused: bool) -> None:
    (Path(stack[1]["context"]) / "Dockerfile").write_text(f"FROM parent\n{text}\n")
    layer = parse(stack)[1]
    if refused:
        with pytest.raises(GpusteadError, match="the proxy has a password"):
            check_proxies(layer)
    else:
        check_proxies(layer)


def test_a_parent_that_is_there_is_linked_as_an_image(stack: list[dict[str, Any]]) -> None:
    planned = made(stack)
    bake = json.loads(bake_file(list(planned.values()), ["top"], Inputs("debian:12")))
    assert list(bake["target"]) == ["top"]
    assert bake["target"]["top"]["contexts"] == {"parent": f"docker-image://{planned['torch'].ref}"}


@pytest.mark.parametrize(
    ("there", "built"),
    [
        ({"top"}, []),
        ({"base", "torch", "top"}, []),
        ({"base", "torch"}, ["top"]),
        ({"torch"}, ["top"]),
        ({"base"}, ["torch", "top"]),
        (set(), ["base", "torch", "top"]),
    ],
)
def test_what_is_there_is_not_built(stack: list[dict[str, Any]], there: set[str], built: list[str]) -> None:
    assert to_build(list(made(stack).values()), ["top"], there.__contains__) == built


def test_each_layer_is_asked_for_once(stack: list[dict[str, Any]]) -> None:
    stack[2]["parent"] = "base"
    asked: list[str] = []

    def there(name: str) -> bool:
        asked.append(name)
        return False

    assert to_build(list(made(stack).values()), ["torch", "top"], there) == ["base", "torch", "top"]
    assert sorted(asked) == ["base", "top", "torch"]


def test_wanted_are_the_tops_the_tagged_and_the_target(stack: list[dict[str, Any]]) -> None:
    assert wanted(parse(stack), "top") == ["top"]
    assert wanted(parse(stack), "base") == ["base", "top"]
    stack[1]["tags"] = ["stable"]
    assert wanted(parse(stack), "top") == ["torch", "top"]


def test_git_data_does_not_count(stack: list[dict[str, Any]]) -> None:
    before = made(stack)["top"].key
    git = Path(stack[2]["context"]) / ".git"
    git.mkdir()
    (git / "HEAD").write_text("x")
    assert made(stack)["top"].key == before
