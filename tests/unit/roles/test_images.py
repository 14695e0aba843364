"""What role images makes of its settings: layers, the record of images in use, and which images of a node may go."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_record import read
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import parse, plan
from ansible_collections.gpustead.cluster.tests.unit.role_variables import ROOT, render

GROUPS = {"gpu_nodes": ["a"]}
HOST = "10.1.0.5:5000"
PLACE = f"{HOST}/gpustead"
REPOSITORY = f"{PLACE}/debian12_base"


def content(value: Any) -> dict[str, str]:
    """As module slurp returns a file with this JSON."""
    return {"content": base64.b64encode(json.dumps(value).encode()).decode()}


NOTHING: dict[str, Any] = {"schema": 1, "workspace": {}, "layers": [], "history": [], "problem": ""}


def entry(key: str, name: str = REPOSITORY) -> dict[str, str]:
    return {"ref": f"{name}@sha256:{key}", "key": key}


def kept(key: str, *layers: str) -> dict[str, Any]:
    """An image of the history, with the keys of its layers."""
    return {**entry(key), "layers": [f"{REPOSITORY}:{layer}" for layer in layers]}


def row(name: str, key: str, size: int | None, seconds: float | None) -> dict[str, Any]:
    return {
        "name": name, "chain": name, "key": key, "ref": f"{REPOSITORY}:{key[:12]}", "size": size, "seconds": seconds,
        "other": "not announced",
    }  # fmt: skip


def new_record(tmp_path: Path, former: Any = None, **settings: Any) -> Any:
    built = {**entry("b" * 64), "layers": [row("base", "1" * 12, 7, None), row("top", "b" * 64, 9, 3.5)]}
    read = {} if former is None else content(former)
    given = {"__images_record_content": read, "__images_built": built, "images_registry": HOST, **settings}
    return render(tmp_path, "images", ["__images_plan.announcement"], GROUPS, given)["__images_plan.announcement"]


FORMER_LAYER = {name: value for name, value in row("base", "1" * 12, 7, 12.0).items() if name != "other"}
FORMER: dict[str, Any] = {
    "schema": 1,
    "workspace": entry("a" * 64),
    "layers": [FORMER_LAYER],
    "history": [kept("a" * 64, "1" * 12), kept("c" * 64, "3" * 12), kept("d" * 64)],
}


def test_the_first_announcement(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    assert record["workspace"] == entry("b" * 64)
    assert record["history"] == [kept("b" * 64, "1" * 12, "b" * 12)]
    assert [(layer["size"], layer["seconds"]) for layer in record["layers"]] == [(7, None), (9, 3.5)]
    assert "other" not in record["layers"][0]


def test_what_was_built_before_took_what_it_took_then_and_the_oldest_image_goes(tmp_path: Path) -> None:
    record = new_record(tmp_path, FORMER)
    assert [layer["seconds"] for layer in record["layers"]] == [12.0, 3.5]
    assert [image["key"][0] for image in record["history"]] == ["b", "a", "c"]
    assert record["history"][1:] == FORMER["history"][:2]


def test_a_second_run_announces_the_same(tmp_path: Path) -> None:
    record = new_record(tmp_path, FORMER)
    assert new_record(tmp_path, record) == record


def recorded(**changes: Any) -> dict[str, Any]:
    """What a builder writes, with some of it otherwise."""
    return {**FORMER, **changes}


DEEP = "[" * 200_000
WRONG = {
    "no JSON": "{",
    "no object": "[]",
    "null": "null",
    "more behind it": "{}\ntampered",
    "no schema": json.dumps({**FORMER, "schema": 2}),
    "lists that are none": '{"schema": 1, "history": 1, "layers": {}, "workspace": []}',
    "a layer of nothing": json.dumps(recorded(layers=[{}])),
    "a layer that is none": json.dumps(recorded(layers=["x"])),
    "too deep": DEEP,
    "too deep inside": f'{{"schema": 1, "layers": {DEEP}',
    "too long": json.dumps(recorded(more="x" * (8 << 20))),
    "too many": json.dumps(recorded(history=[entry("a" * 64)] * 1001)),
    "a text for a number": json.dumps(recorded(layers=[{**FORMER_LAYER, "size": "7"}])),
    "no number": json.dumps(recorded(layers=[{**FORMER_LAYER, "seconds": float("nan")}])),
    "an escape sequence in a name": json.dumps(recorded(layers=[{**FORMER_LAYER, "name": "\x1b]0;x"}])),
    "another key": json.dumps(recorded(workspace={**entry("a" * 64), "key": "../a"})),
    "an image by its tag": json.dumps(recorded(workspace={**entry("a" * 64), "ref": f"{REPOSITORY}:latest"})),
    "no digest": json.dumps(recorded(workspace={**entry("a" * 64), "ref": f"{REPOSITORY}@sha256:a"})),
    "another registry": json.dumps(recorded(workspace=entry("a" * 64, "evil.example:5000/gpustead/x"))),
    "none at all": json.dumps(recorded(workspace=entry("a" * 64, "evil/x"))),
    "another repository": json.dumps(recorded(workspace=entry("a" * 64, f"{HOST}/evil/x"))),
    "one that begins alike": json.dumps(recorded(workspace=entry("a" * 64, f"{HOST}/gpustead-evil/x"))),
    "a way up": json.dumps(recorded(workspace=entry("a" * 64, f"{PLACE}/../evil/x"))),
    "one below": json.dumps(recorded(workspace=entry("a" * 64, f"{PLACE}/evil/x"))),
    "a password in it": json.dumps(recorded(workspace=entry("a" * 64, f"ada:x@{PLACE}/x"))),
    "an option": json.dumps(recorded(workspace=entry("a" * 64, f"--config=/x {PLACE}/x"))),
    "a line more": json.dumps(recorded(workspace={**entry("a" * 64), "ref": f"{entry('a' * 64)['ref']}\n"})),
    "a template": json.dumps(recorded(workspace=entry("a" * 64, f"{PLACE}/{{{{ lookup('pipe', 'id') }}}}"))),
    "a tag for a layer": json.dumps(recorded(layers=[{**FORMER_LAYER, "ref": f"{REPOSITORY}:latest"}])),
    "contents that are none": json.dumps(recorded(history=[{**kept("a" * 64), "contents": {"apt": {"bash": 5}}}])),
    "contents of no kind": json.dumps(recorded(history=[{**kept("a" * 64), "contents": {"rpm": {}}}])),
    "variants that are none": json.dumps(recorded(variants=[FORMER])),
    "a variant by no name": json.dumps(recorded(variants={"../x": FORMER})),
    "a variant that is none": json.dumps(recorded(variants={"volta": 1})),
    "another registry in a variant": json.dumps(
        recorded(variants={"volta": recorded(workspace=entry("a" * 64, "evil.example:5000/gpustead/x"))})
    ),
    "a node that is none": json.dumps(recorded(gpus=["h1"])),
    "a capability that is none": json.dumps(
        recorded(gpus=[{"host": "h1", "machine": "x86_64", "driver": None, "compute_capabilities": ["sm_90"]}])
    ),
    "a list for a name": json.dumps(recorded(history=[{**kept("a" * 64), "layers": [["x"]]}])),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_builder_writes_announces_nothing(case: str) -> None:
    found = read(WRONG[case], PLACE)
    assert {**found, "problem": ""} == NOTHING
    assert ": expected " in found["problem"] or " is " in found["problem"]
    assert found["problem"].isprintable() and len(found["problem"]) < 600


def test_what_a_builder_writes_is_taken_as_it_is() -> None:
    assert read(json.dumps(FORMER), PLACE) == {**FORMER, "problem": ""}
    assert read("", PLACE) == NOTHING
    assert read(json.dumps({"schema": 1, "layers": [], "history": [], "workspace": {}}), PLACE) == NOTHING


def test_images_of_another_place_are_no_history_of_this_one() -> None:
    elsewhere = {**kept("c" * 64), "ref": f"{HOST}/trial/x@sha256:{'c' * 64}"}
    found = read(json.dumps(recorded(history=[kept("a" * 64), elsewhere])), PLACE)
    assert (found["history"], found["workspace"]) == ([kept("a" * 64)], FORMER["workspace"])
    # Root's own record may have several.
    assert len(read(json.dumps(recorded(history=[kept("a" * 64), elsewhere])))["history"]) == 2


def test_a_damaged_record_is_written_anew(tmp_path: Path) -> None:
    damaged = {"content": base64.b64encode(b"{}\nx").decode()}
    record = new_record(tmp_path, None, __images_record_content=damaged, __images_former_content=damaged)
    assert [image["key"] for image in record["history"]] == ["b" * 64]


def test_the_history_is_roots_own_and_the_share_is_asked_where_there_is_none(tmp_path: Path) -> None:
    share = content(recorded(history=[kept("e" * 64)]))
    record = new_record(tmp_path, FORMER, __images_former_content=share)
    assert [image["key"][0] for image in record["history"]] == ["b", "a", "c"]
    record = new_record(tmp_path, None, __images_former_content=share)
    assert [image["key"][0] for image in record["history"]] == ["b", "e"]


@pytest.mark.parametrize(("record", "asks"), [(FORMER, True), (None, False)])
def test_without_a_record_of_its_own_a_builder_deletes_nothing(tmp_path: Path, record: Any, asks: bool) -> None:
    settings = {
        "__images_record_content": content(record) if record else {},
        "__images_former_content": content(FORMER),
    }
    found = render(tmp_path, "images", ["__images_plan.recorded"], GROUPS, settings)
    assert found == {"__images_plan.recorded": asks}


EVIL = recorded(workspace=entry("e" * 64, "evil.example:5000/gpustead/x"))
OLDER = recorded(workspace=entry("c" * 64))


@pytest.mark.parametrize(
    ("record", "share", "digit"),
    [(FORMER, EVIL, "a"), (FORMER, OLDER, "a"), (None, FORMER, "a"), (None, OLDER, "c"), (None, EVIL, "")],
)
def test_a_node_runs_what_the_builder_says_or_what_the_share_may_say(
    tmp_path: Path, record: Any, share: Any, digit: str
) -> None:
    settings = {
        **({"__images_handed": json.dumps(record)} if record else {}),
        "__images_shared_content": content(share),
        "images_registry": HOST,
        "images_pull_from": "cache:5010",
    }
    found = render(tmp_path, "images", ["__images_plan.record"], GROUPS, settings)["__images_plan.record"]
    assert found["workspace"].get("key", "")[:1] == digit
    if digit:
        ref = render(tmp_path, "images", ["__images_plan.ref"], GROUPS, settings)["__images_plan.ref"]
        assert ref == f"cache:5010/gpustead/debian12_base@sha256:{digit * 64}"


def test_an_older_record_says_what_the_latest_image_stands_on(tmp_path: Path) -> None:
    older = {**FORMER, "history": [entry(letter * 64) for letter in "ac"]}
    assert read(json.dumps(older))["history"] == [kept("a" * 64, "1" * 12), kept("c" * 64)]


def test_an_earlier_image_is_announced_by_the_first_digits_of_its_key(tmp_path: Path) -> None:
    record = new_record(tmp_path, FORMER, images_tag="ccc")
    assert record == {**FORMER, "workspace": entry("c" * 64)}


def test_projects_and_tools_are_layers_on_top(tmp_path: Path) -> None:
    git = "https://git.example.org/theirs.git#" + "0" * 40
    found = render(
        tmp_path, "images", ["__images_plan.layers", "__images_sources"], GROUPS,
        {
            "images_stack": [
                {"name": "base"},
                {"name": "docs", "context": "/srv/docs", "contexts": {"pages": "/srv/pages"}},
            ],
            "images_tools": ["zsh", "ffmpeg"],
            "images_projects": [{"name": "ours", "source": "/srv/ours"}, {"name": "theirs", "source": git}],
            "images_build_dir": "/b",
        },
    )  # fmt: skip
    layers = {layer["name"]: layer for layer in found["__images_plan.layers"]}
    assert list(layers) == ["base", "docs", "tools", "ours", "theirs"]
    assert layers["tools"]["args"] == {"tools": "zsh ffmpeg"}
    assert layers["docs"]["contexts"] == {"pages": "/b/sources/docs/pages"}
    assert layers["ours"] == {
        "name": "ours", "context": "/b/stack/ours", "args": {"project": "ours"},
        "contexts": {"source": "/b/sources/ours/source"},
    }  # fmt: skip
    assert layers["theirs"]["contexts"] == {"source": git}
    assert found["__images_sources"] == ["/srv/pages", "/srv/ours"]


def test_the_builder_sees_the_gpus_of_all_nodes_and_a_node_its_variant(tmp_path: Path) -> None:
    gpus = {"driver_version": "590.48.01", "machine": "x86_64", "gpus": [{"compute_capability": "12.0"}]}
    settings = {
        "images_builder": "a",
        "images_registry": HOST,
        "images_variants": [{"name": "old", "nodes": "volta"}, {"name": "own", "nodes": "blackwell"}],
        "__images_offer": {"gpus": gpus},
    }
    names = ["__images_plan.layers", "__images_plan.variants", "__images_plan.follows_gpus", "__images_variant"]
    groups = {**GROUPS, "volta": ["b"], "blackwell": ["a"]}
    found = render(tmp_path, "images", names, groups, settings)
    indexes = [
        next(layer["args"]["torch_index"] for layer in layers if layer["name"] == "torch")
        for layers in (found["__images_plan.layers"], *(one["layers"] for one in found["__images_plan.variants"]))
    ]
    url = "https://download.pytorch.org/whl"
    assert indexes == [f"{url}/cu126", f"{url}/cu126", f"{url}/cu130"]
    assert (found["__images_plan.follows_gpus"], found["__images_variant"]) == (True, "own")


STACK = ROOT / "roles/images/files/stack"


def stack(tmp_path: Path, **settings: Any) -> list[dict[str, Any]]:
    """The layers of our own stack under some settings, on a builder where all of their files have been brought."""
    build = tmp_path / "build"
    if not build.exists():
        (build / "wheelhouse").mkdir(parents=True)
        (build / "stack").symlink_to(STACK)
    settings = {"images_build_dir": str(build), "images_builder": "a", **settings}
    found: list[dict[str, Any]] = render(tmp_path, "images", ["__images_plan.layers"], GROUPS, settings)[
        "__images_plan.layers"
    ]
    return found


def keys(tmp_path: Path, layers: list[dict[str, Any]]) -> dict[str, str]:
    contexts = {"wheelhouse": str(tmp_path / "build/wheelhouse")}
    return {item.layer.name: item.key for item in plan(parse(layers), "debian:12", "sha256:1", contexts, "r")}


CUDA = {"images_deepspeed_ops": ["FUSED_ADAM", "CPU_ADAM"], "images_cuda_architectures": ["8.0", "9.0"]}
CARDS = {"gpus": [{"compute_capability": one} for one in ("9.0", "8.0", "9.0", None)]}
MIXED = {"images_deepspeed_ops": ["FUSED_ADAM"], "__images_offer": {"gpus": CARDS}}
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
        ({"__images_offer": {"gpus": CARDS}}, "deepspeed", {"cuda_architectures": ""}, set()),
        ({"images_gradio_version": "6.0.0"}, "workspace", {"gradio_version": "6.0.0"}, {"workspace"}),
        ({"images_python": "3.12"}, "python", {"python_version": "3.12"}, {"python"} | ABOVE_TORCH),
        ({"images_packages": ["torchvision"]}, "packages", {"further_packages": "torchvision"}, {"packages"}),
        (
            {"images_flash_attn_version": "2.8.3+x", "images_flash_attn_index": "https://wheels"},
            "flash-attn",
            {"flash_attn_wheel": "2.8.3+x"},
            {"flash-attn"},
        ),
        (
            {"images_tensorflow": "tensorflow-cpu==2.21.0"},
            "tensorflow",
            {"tensorflow": "tensorflow-cpu==2.21.0"},
            {"tensorflow"},
        ),
        ({"images_graphics": True}, "graphics", {"open3d_version": ""}, {"graphics"}),
        ({"images_coding_tools": ["opencode"]}, "coding", {"opencode_version": "1.18.33"}, {"coding"}),
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
    further = {
        "images_tensorflow": "tensorflow-cpu==2.21.0",
        "images_graphics": True,
        "images_coding_tools": ["code-server"],
        "images_python": "3.12",
        "images_packages": ["einops"],
        "images_flash_attn_index": "https://wheels",
    }
    layers = stack(
        tmp_path, images_tools=["zsh"], images_bake_users=USERS, images_flash_attn_version="2.8.3+x", **further
    )
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


PLAYBOOK = """
- hosts: a
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}", ansible_connection: local}
  tasks:
    - ansible.builtin.include_role: {name: gpustead.cluster.images, tasks_from: architectures.yml}
"""


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (None, "gpus.json on a names no GPU to compile for"),
        (
            [{"uuid": "GPU-1", "compute_capability": "9.0"}, {"uuid": "GPU-2", "compute_capability": None}],
            "gpus.json on a names no compute capability of GPU-2: set images_cuda_architectures",
        ),
    ],
)
def test_without_a_gpu_to_compile_for_nothing_is_compiled(
    tmp_path: Path, gpus: list[dict[str, Any]] | None, said: str
) -> None:
    variables = {
        "images_builder": "a",
        "images_deepspeed_ops": ["CPU_ADAM"],
        "images_gpus_file": str(tmp_path / "gpus.json"),
    }
    if gpus:
        (tmp_path / "gpus.json").write_text(json.dumps({"gpus": gpus}))
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", "a,", "-e", json.dumps(variables), f"{tmp_path}/play.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    words = " ".join(done.stderr.split()) + " ".join(done.stdout.split())
    assert said in words


def test_settings_that_cannot_be_met_are_a_problem_of_the_plan(tmp_path: Path) -> None:
    settings = {"images_registry": HOST, "images_python_lock": "/no/lock", "images_cuda_architectures": ["8.0"]}
    found = render(tmp_path, "images", ["__images_plan.problem"], GROUPS, settings)["__images_plan.problem"]
    assert found.startswith("images_python_lock is '/no/lock', no file")


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
        "images_registry": HOST,
        "__images_shared_content": content(FORMER),
        "__images_local": {"stdout_lines": lines},
        "__images_used": {"stdout_lines": [f"{REPOSITORY}@sha256:{'e' * 64}", "debian:12"]},
    }
    found = render(tmp_path, "images", ["__images_plan.superfluous"], GROUPS, settings)["__images_plan.superfluous"]
    assert found == [f"{REPOSITORY}:{'2' * 12}", f"{REPOSITORY}@sha256:{'f' * 64}"]


def test_the_registry_keeps_what_is_kept_with_its_layers_and_what_runs(tmp_path: Path) -> None:
    settings = {
        "images_registry": HOST,
        "__images_shared_content": content({**FORMER, "workspace": entry("e" * 64)}),
        "__images_used": {"stdout_lines": ["debian:12"]},
    }
    found = render(tmp_path, "images", ["__images_registry_kept"], GROUPS, settings)["__images_registry_kept"]
    digests = {f"{REPOSITORY}@sha256:{letter * 64}" for letter in "acde"}
    assert set(found) == digests | {f"{REPOSITORY}:{'1' * 12}", f"{REPOSITORY}:{'3' * 12}", "debian:12"}


@pytest.mark.parametrize(("groups", "prunes"), [(GROUPS, False), ({**GROUPS, "registry": ["b"]}, True)])
def test_a_registry_of_somebody_else_is_left_alone(tmp_path: Path, groups: dict[str, list[str]], prunes: bool) -> None:
    found = render(tmp_path, "images", ["images_registry_prune"], groups, {})
    assert found["images_registry_prune"] is prunes


OWN = """
- hosts: a
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    ansible_connection: local
    __images_begun: {previous: "{{ left }}"}
  tasks:
    - ansible.builtin.include_role: {name: gpustead.cluster.images, tasks_from: contexts.yml}
"""


def bring(tmp_path: Path, left: list[str]) -> tuple[int, str]:
    """Has the builder's directory made and filled, after a receipt with these trees."""
    (tmp_path / "layer").mkdir(exist_ok=True)
    (tmp_path / "layer/Dockerfile").write_text("FROM parent\n")
    (tmp_path / "lock").write_text("torch==2.13.0\n")
    variables = {
        "images_build_dir": str(tmp_path / "build"),
        "images_stack": [{"name": "base", "context": str(tmp_path / "layer")}],
        "images_ca_certificates": [],
        "images_python_lock": str(tmp_path / "lock"),
        "left": [["tree", {"name": name}] for name in left],
    }
    (tmp_path / "play.yml").write_text(OWN)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", "a,", "-e", json.dumps(variables), f"{tmp_path}/play.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_what_somebody_else_has_in_the_builders_directory_is_refused_and_stays(tmp_path: Path) -> None:
    build = tmp_path / "build"
    for name in ("sources/theirs", "other"):
        (build / name).mkdir(parents=True)
        (build / name / "data").write_text("theirs")
    code, text = bring(tmp_path, [])
    assert code == 2
    assert f"{build}/sources, which role images did not make" in text
    assert sorted(path.name for path in build.rglob("*")) == ["data", "data", "other", "sources", "theirs"]
    # That it made another directory says nothing of this one.
    assert bring(tmp_path, [f"/elsewhere/{name}" for name in ("stack", "sources", "wheelhouse")])[0] == 2


def test_what_no_layer_has_any_more_is_removed_from_the_roles_own_directories(tmp_path: Path) -> None:
    build = tmp_path / "build"
    (build / "other").mkdir(parents=True)
    (build / "other/data").touch()
    code, text = bring(tmp_path, [])
    assert code == 0 and "changed=1" in text, text
    (build / "stack/base/stray").mkdir()
    (build / "stack/base/stray/file").touch()
    (build / "stack/base/Dockerfile").write_text("changed")
    assert bring(tmp_path, [])[0] == 0
    assert not (build / "stack/base/stray").exists()
    assert (build / "stack/base/Dockerfile").read_text() == "FROM parent\n" and (build / "other/data").exists()
    assert "changed=0" in bring(tmp_path, [])[1]


def test_directories_of_an_earlier_version_are_known_by_the_receipt(tmp_path: Path) -> None:
    places = [tmp_path / "build" / name for name in ("stack", "sources", "wheelhouse")]
    for place in places:
        place.mkdir(parents=True)
    (places[0] / "stray").touch()
    assert bring(tmp_path, list(map(str, places)))[0] == 0
    assert not (places[0] / "stray").exists()
    assert (tmp_path / "build/.gpustead-images").exists()


def test_only_images_that_the_role_pulled_and_could_pull_again_are_taken_back(tmp_path: Path) -> None:
    here = {"again:1": ["again@sha256:1"], "built:1": [], "theirs:1": ["theirs@sha256:2"]}
    settings = {
        "images_extra": ["kept:1", "new:1", "was:1"],
        "__images_here": {"pulled": ["again:1", "built:1", "gone:1", "kept:1"], "missing": [], "free_gb": 9},
        "__images_pulled": {
            "results": [{"item": f"{REPOSITORY}@sha256:1", "changed": True}, {"item": "new:1", "changed": True},
                        {"item": "was:1", "changed": False}],
        },
        "__images_former_here": {
            "results": [{"item": name, "images": [{"RepoDigests": digests}]} for name, digests in here.items()]
            + [{"item": "gone:1", "images": []}],
        },
    }  # fmt: skip
    found = render(tmp_path, "images", ["__images_plan.removable", "__images_plan.extra_pulled"], GROUPS, settings)
    assert found == {"__images_plan.removable": ["again:1"], "__images_plan.extra_pulled": ["kept:1", "new:1"]}
