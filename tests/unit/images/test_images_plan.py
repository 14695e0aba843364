"""The plan of role images: what earlier versions rendered from the same settings, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.filter.images_plan import FilterModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.images_plan import Observed, Settings, plan

CASES = json.loads((Path(__file__).parents[1] / "fixtures/images/plans.json").read_text())
ROLE: dict[str, Any] = {
    "files": "/role/files",
    "build_dir": "/b",
    "repository": "gpustead",
    "stack": [{"name": "base"}],
}


@pytest.mark.parametrize("name", CASES)
def test_the_plan(name: str) -> None:
    case = CASES[name]
    found = vars(plan(Settings(**case["settings"]), Observed(**case["observed"])))
    # As text: the order of keys is that of the files that the role writes.
    assert json.dumps({field: found[field] for field in case["plan"]}) == json.dumps(case["plan"])


def test_what_belongs_on_the_builder() -> None:
    settings: dict[str, Any] = {
        **ROLE,
        "projects": [{"name": "ours", "source": "/srv/ours"}],
        "ca_certificates": ["/srv/site.pem"],
        "python_lock": "/srv/lock",
    }
    found = plan(Settings(**settings), Observed())
    assert [vars(context) for context in found.contexts] == [
        {"name": "base", "source": "/role/files/stack/base", "destination": "/b/stack/base"},
        {"name": "ours", "source": "/role/files/stack/project", "destination": "/b/stack/ours"},
        {"name": "ours source", "source": "/srv/ours", "destination": "/b/sources/ours/source"},
    ]
    assert found.files == [
        {"source": "/srv/site.pem", "destination": "/b/stack/base/ca/site.pem"},
        {"source": "/srv/lock", "destination": "/b/wheelhouse/python.lock"},
    ]


def test_before_anything_is_known() -> None:
    found = plan(Settings(**ROLE, extra=["alpine:3"]), Observed())
    assert (found.announcement, found.ref, found.wanted, found.superfluous) == ({}, "", ["alpine:3"], [])
    assert plan(Settings(**ROLE, tag="abc"), Observed()).announcement == {}


TORCH = {"name": "torch", "args": {"torch_version": "2.15.0", "torch_index": "https://download.pytorch.org/whl/cu126"}}


def test_an_index_without_the_release_of_torch_is_refused() -> None:
    """An installer would take a wheel of another CUDA from PyPI."""
    stack = [*ROLE["stack"], TORCH]
    with pytest.raises(GpusteadError, match=r"layer torch: torch 2\.15\.0 from cu126: expected .* cu130 or cu132"):
        plan(Settings(**{**ROLE, "stack": stack}), Observed())
    for own in ("wheelhouse", "python_lock"):
        assert plan(Settings(**{**ROLE, "stack": stack, own: "/srv/own"}), Observed()).layers[-1]["name"] == "torch"


AUTO: dict[str, Any] = {"name": "torch", "args": {"torch_version": "2.13.0", "torch_index": "https://mirror/whl/auto"}}
FOLLOWS: dict[str, Any] = {**ROLE, "base": "cuda:12", "stack": [*ROLE["stack"], AUTO, {"name": "own", "context": "/o"}]}
VOLTA = {"name": "volta", "nodes": "volta", "args": {"torch_version": "2.14.0"}}
MEMBERS = {"gpu_nodes": ["h1", "r1", "v1"], "volta": ["v1"], "hopper": ["h1"]}


def left(capability: str, driver: str = "590.48.01", withheld: str | None = None) -> dict[str, Any]:
    """What role nvidia leaves on a node."""
    gpu = {"uuid": "GPU-1", "compute_capability": capability, "withheld": withheld}
    return {"driver": "nvidia", "driver_version": driver, "machine": "x86_64", "gpus": [gpu]}


def seen(host: str, capability: str) -> dict[str, Any]:
    return {"host": host, "machine": "x86_64", "driver": "590.48.01", "compute_capabilities": [capability]}


def record(*letters: str, **more: Any) -> dict[str, Any]:
    """A record whose image in use has the first of these as its key."""
    images = [{"ref": f"r:5000/gpustead/base@sha256:{one * 64}", "key": one * 64, "layers": []} for one in letters]
    return {
        "schema": 1,
        "workspace": {name: images[0][name] for name in ("ref", "key")},
        "layers": [],
        "history": images,
        **more,
    }


def built(letter: str) -> dict[str, Any]:
    return {"ref": f"r:5000/gpustead/base@sha256:{letter * 64}", "key": letter * 64, "layers": []}


# Nodes of this run, what the builder saw before; the index of all, and of the variant.
FOLLOWED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[str]]] = {
    "nothing is known": ({}, [], ["cu126", "cu126"]),
    "H100": ({"h1": left("9.0")}, [], ["cu126", "cu126"]),
    "RTX 5090": ({"r1": left("12.0")}, [], ["cu130", "cu126"]),
    "one that was seen before": ({"h1": left("9.0")}, [seen("r1", "12.0")], ["cu130", "cu126"]),
    "one that was exchanged": ({"r1": left("9.0")}, [seen("r1", "12.0")], ["cu126", "cu126"]),
    "one that is no node any more": ({"h1": left("9.0")}, [seen("gone", "12.0")], ["cu126", "cu126"]),
    "one that is withheld": ({"r1": left("12.0", withheld="excluded")}, [], ["cu126", "cu126"]),
    "each kind with its own": ({"r1": left("12.0"), "v1": left("7.0"), "h1": None}, [], ["cu130", "cu126"]),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_an_index_follows_the_gpus_of_the_nodes_that_run_the_image(case: str) -> None:
    nodes, before, indexes = FOLLOWED[case]
    former = json.dumps(record("a", gpus=before))
    observed = Observed(registry="r:5000", record=former, nodes=nodes, members=MEMBERS)
    found = plan(Settings(**FOLLOWS, variants=[VOLTA]), observed)
    assert (found.problem, found.follows_gpus) == ("", True)
    images = [found.layers, found.variants[0]["layers"]]
    assert [layers[1]["args"]["torch_index"] for layers in images] == [f"https://mirror/whl/{one}" for one in indexes]
    assert [layers[1]["args"]["torch_version"] for layers in images] == ["2.13.0", "2.14.0"]
    assert found.variants[0]["base"] == "cuda:12" and images[0][2] == images[1][2]


def test_an_index_of_its_own_stays_and_no_gpu_is_asked() -> None:
    stack = [{"name": "torch", "args": {**AUTO["args"], "torch_index": "https://mirror/whl/cu126"}}]
    observed = Observed(registry="r:5000", nodes={"r1": left("12.0")}, members=MEMBERS, built=built("b"))
    found = plan(Settings(**{**FOLLOWS, "stack": stack}), observed)
    assert (found.follows_gpus, found.layers[0]["args"]["torch_index"]) == (False, "https://mirror/whl/cu126")
    assert "gpus" not in found.announcement


@pytest.mark.parametrize(
    ("torch", "index", "warned"), [("2.99.0", "auto", True), ("2.13.0", "auto", False), ("2.99.0", "x", False)]
)
def test_a_release_that_is_not_known_is_warned_of_where_gpus_choose(
    monkeypatch: pytest.MonkeyPatch, torch: str, index: str, warned: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, text: told.append(text))
    stack = [{"name": "torch", "args": {"torch_version": torch, "torch_index": f"https://mirror/whl/{index}"}}]
    FilterModule().filters()["images_plan"]({**FOLLOWS, "stack": stack})
    assert any("torch 2.99.0 is newer than" in text for text in told) is warned


def test_gpus_that_no_index_serves_are_refused_with_the_split() -> None:
    stack = [{"name": "torch", "args": {**AUTO["args"], "torch_version": "2.15.0"}}]
    observed = Observed(registry="r:5000", nodes={"h1": left("9.0"), "v1": left("7.0")}, members=MEMBERS)
    problem = plan(Settings(**{**FOLLOWS, "stack": stack}), observed).problem
    assert "split the nodes by images_variants (h1: torch 2.15 from cu130; v1: torch 2.14 from cu126)" in problem
    assert plan(Settings(**{**FOLLOWS, "stack": stack}, variants=[VOLTA]), observed).problem == ""


BAD_VARIANTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "an argument of no layer": (
        [{**VOLTA, "args": {"torch": "2"}}],
        "images_variants, volta: args has torch: expected",
    ),
    "no group": ([{**VOLTA, "nodes": "none"}], "images_variants, volta: nodes is 'none': expected a group"),
    "a node twice": ([VOLTA, {"name": "two", "nodes": "gpu_nodes"}], "images_variants, volta: v1 is in two, too"),
    "a name twice": ([VOLTA, {**VOLTA, "nodes": "hopper"}], "images_variants, volta: it is there twice"),
    "no name": ([{**VOLTA, "name": "Volta!"}], "images_variants, Volta!: its name 'Volta!': expected"),
    "an index without its release": (
        [{**VOLTA, "args": {"torch_version": "2.15.0", "torch_index": "https://mirror/whl/cu126"}}],
        "images_variants, volta: images_stack: layer torch: torch 2.15.0 from cu126",
    ),
    "a password": (
        [{**VOLTA, "args": {"torch_index": "https://ada:hunter2@mirror/whl/cu126"}}],
        "images_variants, volta: layer 'torch': the argument torch_index is 'https://***@mirror",
    ),
}


@pytest.mark.parametrize("case", BAD_VARIANTS)
def test_variants_that_cannot_be_are_refused(case: str) -> None:
    variants, words = BAD_VARIANTS[case]
    observed = Observed(registry="r:5000", members=MEMBERS)
    assert plan(Settings(**FOLLOWS, variants=variants), observed).problem.startswith(words)


def test_each_node_has_the_image_of_its_group_and_keeps_those_of_all() -> None:
    settings = Settings(**FOLLOWS, variants=[VOLTA])
    former = record("a", "c", gpus=[seen("h1", "9.0")], variants={"volta": record("d"), "gone": record("e")})
    observed: dict[str, Any] = {"registry": "r:5000", "record": json.dumps(former), "members": MEMBERS}
    made = plan(settings, Observed(**observed, built=built("b"), built_variants=[built("f")]))
    keys = {
        name: [image["key"][0] for image in part["history"]] for name, part in made.announcement["variants"].items()
    }
    assert (keys, made.announcement["gpus"]) == ({"volta": ["f", "d"]}, former["gpus"])
    announced = json.dumps(made.announcement)
    for variant, letter in (("", "b"), ("volta", "f"), ("none", "")):
        node = plan(settings, Observed(registry="r:5000", pull_from="c:5010", announced=announced, variant=variant))
        assert node.ref == (f"c:5010/gpustead/base@sha256:{letter * 64}" if letter else "")
        assert {ref.rpartition(":")[2][0] for ref in node.registry_kept} == {*"bacfd"}


def test_what_is_in_an_image_stays_with_it() -> None:
    inside = {"apt": {"bash": "5.2"}}
    former = record("a", "c")
    former["history"][0]["contents"] = inside
    observed: dict[str, Any] = {"registry": "r:5000", "record": json.dumps(former)}
    same = plan(Settings(**ROLE), Observed(**observed, built=built("a"))).announcement["history"]
    assert [image.get("contents") for image in same] == [inside, None]
    assert plan(Settings(**ROLE), Observed(**observed)).contents_known == ["a" * 64]
    new = plan(Settings(**ROLE), Observed(**observed, built={**built("b"), "contents": {"pip": {}}})).announcement
    assert [image.get("contents") for image in new["history"]] == [{"pip": {}}, inside, None]


def test_the_nodes_of_a_run_are_not_handed_what_is_in_the_images() -> None:
    inside = {"contents": {"apt": {"bash": "5.2"}}}
    observed = Observed(built={**built("b"), **inside}, built_variants=[{**built("f"), **inside}])
    found = plan(Settings(**FOLLOWS, variants=[VOLTA]), observed)
    assert json.dumps(found.announcement).count("bash") == 2 and "bash" not in json.dumps(found.handed)
    assert {*found.handed} == {*found.announcement} and found.handed["history"][0]["key"] == "b" * 64


def test_what_is_written_for_enroot() -> None:
    settings = Settings(**{**FOLLOWS, "repository": "team/site"}, variants=[VOLTA])
    announced = json.dumps(record("a", "c", variants={"volta": record("d")}))
    found = plan(settings, Observed(registry="r:5000", pull_from="c:5010", announced=announced))
    assert all(one["image"].startswith("r:5000/gpustead/base@sha256:") for one in found.squashes)
    assert [(one["name"], one["image"][-1], [ref[-1] for ref in one["keep"]]) for one in found.squashes] == [
        ("site", "a", ["a", "c"]), ("site-volta", "d", ["d"]),
    ]  # fmt: skip
    assert plan(settings, Observed()).squashes == []


@pytest.mark.parametrize(("tag", "used"), [("c", ["c", "d"]), ("e", ["a", "e"])])
def test_an_earlier_image_of_some_nodes_leaves_the_others_theirs(tag: str, used: list[str]) -> None:
    former = record("a", "c", variants={"volta": record("d", "e")})
    settings = Settings(**FOLLOWS, variants=[VOLTA], tag=tag)
    found = plan(settings, Observed(registry="r:5000", record=json.dumps(former)))
    parts = [found.announcement, found.announcement["variants"]["volta"]]
    assert [part["workspace"]["key"][0] for part in parts] == used and len(found.selected) == 1


UV = {"name": "uv", "args": {"uv_version": "1"}}


def test_another_python_is_a_layer_on_that_of_uv_and_packages_are_one_on_top() -> None:
    stack = [*ROLE["stack"], UV, AUTO, {"name": "docs", "context": "/srv/docs", "parent": "uv"}]
    settings: dict[str, Any] = {
        "python": "3.12",
        "packages": ["torchvision", "einops"],
        "requirements": "/srv/requirements.txt",
        "requirements_text": "einops\n",
        "flash_attn_version": "2.8.3+x",
        "flash_attn_index": "https://wheels",
        "tools": ["zsh"],
        "site": "/srv/site",
    }
    found = plan(Settings(**{**FOLLOWS, "stack": stack}, **settings), Observed(registry="r:5000"))
    layers = {layer["name"]: layer for layer in found.layers}
    assert (found.problem, list(layers)) == (
        "", ["base", "uv", "python", "torch", "docs", "flash-attn", "packages", "tools", "site"],
    )  # fmt: skip
    assert layers["docs"]["parent"] == "python" and "parent" not in layers["torch"]
    assert layers["site"]["contexts"] == {"site": "/b/sources/site/site"} and found.sources == ["/srv/site"]
    assert layers["python"]["args"] == {"python_version": "3.12"}
    further = {"further_packages": "torchvision einops", "torch_index": "https://mirror/whl/cu126"}
    assert layers["packages"]["args"] == further
    assert layers["flash-attn"]["args"] == {"flash_attn_wheel": "2.8.3+x", "flash_attn_index": "https://wheels"}
    place = "/b/stack/packages/requirements.txt"
    assert found.files == [{"source": "/srv/requirements.txt", "destination": place}]
    assert [one.destination for one in found.contexts][2] == "/b/stack/python"


def test_a_variant_has_other_packages_without_compiling_anything() -> None:
    """Arguments go by their names in all layers: none of ours has two meanings."""
    deepspeed = {"name": "deepspeed", "args": {"packages": "accelerate", "flash_attn_version": ""}}
    settings: dict[str, Any] = {
        **{**ROLE, "stack": [*ROLE["stack"], deepspeed]},
        **{"packages": ["einops"], "flash_attn_version": "2.8.3+x", "flash_attn_index": "https://wheels"},
    }
    args = {"further_packages": "timm", "flash_attn_wheel": ""}
    found = plan(Settings(**settings, variants=[{**VOLTA, "args": args}]), Observed(registry="r:5000", members=MEMBERS))
    layers = {layer["name"]: layer.get("args") for layer in found.variants[0]["layers"]}
    assert (found.problem, layers["deepspeed"]) == ("", deepspeed["args"])
    assert layers["packages"] == {"further_packages": "timm", "torch_index": ""}
    assert layers["flash-attn"] == {"flash_attn_wheel": "", "flash_attn_index": "https://wheels"}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no registry": ({}, "", "images_registry is '': expected host:port."),
    "no registry of the only node": ({"alone": True}, "", ""),
    "a registry of the only node that is none": ({"alone": True}, ":5000", "images_registry is ':5000'"),
    "a tag that is a number": ({"tag": 123}, "r:5000", "images_tag is 123: expected a text."),
    "a capability that is none": (
        {"cuda_architectures": ["8.0", "9.0+PTX", "sm_90"]},
        "r:5000",
        "images_cuda_architectures has sm_90: expected",
    ),
    "a uid twice": (
        {"bake_users": [{"name": "bob", "uid": 1001}, {"name": "eve", "uid": 1001}]},
        "r:5000",
        "images_bake_users has bob 1001, eve 1001 (name and uid)",
    ),
    "a name twice": (
        {"bake_users": [{"name": "bob", "uid": 1001}, {"name": "bob", "uid": 1002}]},
        "r:5000",
        "images_bake_users has bob 1001, bob 1002",
    ),
    "an account without a uid": (
        {"bake_users": [{"name": "bob"}]},
        "r:5000",
        "images_bake_users has bob ? (name and uid)",
    ),
    "a lock that is not there": (
        {"python_lock": "/no/lock", "lock_found": False},
        "r:5000",
        "images_python_lock is '/no/lock', no file",
    ),
    "requirements that are not there": (
        {"requirements": "/no/file", "requirements_text": None},
        "r:5000",
        "images_requirements is '/no/file', no file",
    ),
    "requirements that cannot be built": (
        {"requirements": "/r.txt", "requirements_text": "numpy\n-e ."},
        "r:5000",
        "images_requirements, /r.txt, line 2: '-e .': expected",
    ),
    "a Python for no environment": ({"python": "3.12"}, "r:5000", "images_python is '3.12', and images_stack has no"),
    "wheels of no version": ({"flash_attn_index": "https://w"}, "r:5000", "images_flash_attn_index is set, images_fl"),
    "a site that is no directory": ({"site": "/no/site", "site_found": False}, "r:5000", "images_site is '/no/site'"),
    "nothing": (
        {"cuda_architectures": ["8.0"], "bake_users": [{"name": "bob", "uid": 1001}], "python_lock": "/lock"},
        "r:5000",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_be_met(case: str) -> None:
    settings, registry, words = REFUSED[case]
    problem = plan(Settings(**{**ROLE, **settings}), Observed(registry=registry)).problem
    assert problem.startswith(words) and bool(problem) is bool(words)


ID, EARLIER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
LAYER = {"name": "top", "chain": "debian_top", "key": "c" * 64, "ref": "localhost/gpustead/debian_top:cccccccccccc"}
BUILT: dict[str, Any] = {"ref": ID, "key": "c" * 64, "layers": [{**LAYER, "size": 1, "seconds": 2.0}]}
ALONE = Settings(**ROLE, alone=True)


def built_here(*, former: str = "", **found: Any) -> Observed:
    """What is known of the only node, which has no registry."""
    record = json.dumps(plan(ALONE, Observed(built=BUILT, record=former)).announcement)
    return Observed(**{"record": record, "announced": record, **found})


def test_without_a_registry_an_image_is_run_by_its_id() -> None:
    found = plan(ALONE, built_here())
    assert (found.place, found.pushes, found.ref, found.wanted) == ("localhost/gpustead", False, ID, [ID])
    assert found.record["problem"] == ""
    assert found.record["workspace"]["ref"] == f"localhost/gpustead/debian_top@{ID}"
    assert found.places == ["localhost"]
    # The share says the same, and nothing else is taken from it.
    assert plan(ALONE, Observed(shared=json.dumps(found.announcement or found.record))).ref == ID
    other = json.dumps({**found.record, "workspace": {"ref": f"evil:5000/gpustead/x@{ID}", "key": "c" * 64}})
    assert plan(ALONE, Observed(shared=other)).ref == ""


def test_without_a_registry_what_is_kept_or_run_is_not_removed() -> None:
    stale, tag = f"sha256:{'d' * 64}", "localhost/gpustead/debian_top"
    local = [
        f"{ID} {tag}:cccccccccccc {tag}@<none>",
        f"{EARLIER} {tag}:bbbbbbbbbbbb {tag}@<none>",
        f"{stale} {tag}:dddddddddddd {tag}@<none>",
    ]
    found = plan(ALONE, built_here(local=local, used=[EARLIER]))
    assert found.superfluous == [f"{tag}:dddddddddddd"]
    # What the receipt had of the stack is none of those beside it.
    assert plan(ALONE, built_here(previous=[("image", {"name": EARLIER})])).former_extra == []


def test_without_a_registry_variants_and_files_for_enroot_have_ids() -> None:
    variant = {"name": "volta", "nodes": "old"}
    settings, top = Settings(**ROLE, alone=True, variants=[variant]), "localhost/gpustead/debian_top"
    other = {**BUILT, "ref": EARLIER, "key": "e" * 64, "layers": [{**BUILT["layers"][0], "key": "e" * 64}]}
    made = plan(settings, Observed(built=BUILT, built_variants=[other], members={"old": ["gpu01"]}))
    assert made.announcement["variants"]["volta"]["workspace"] == {"ref": f"{top}@{EARLIER}", "key": "e" * 64}
    announced = json.dumps(made.announcement)
    assert [plan(settings, Observed(announced=announced, variant=one)).ref for one in ("", "volta")] == [ID, EARLIER]
    assert plan(settings, Observed(announced=announced)).squashes == [
        {"name": "gpustead", "image": ID, "keep": [f"{top}@{ID}"]},
        {"name": "gpustead-volta", "image": EARLIER, "keep": [f"{top}@{EARLIER}"]},
    ]
    # Once there is a registry, what it does not have stays nobody's.
    tagged = Settings(**ROLE, alone=True, variants=[variant], tag="e")
    assert plan(tagged, Observed(registry="r:5000", record=announced)).announcement == {}


def test_the_node_gets_a_registry() -> None:
    settings = Settings(**ROLE)
    pushed = {
        "ref": f"r:5000/gpustead/debian_top@{EARLIER}",
        "key": "c" * 64,
        "layers": [{**BUILT["layers"][0], "ref": "r:5000/gpustead/debian_top:cccccccccccc"}],
    }
    found = plan(settings, built_here(registry="r:5000", pull_from="r:5000", built=pushed, announced=""))
    assert (found.place, found.pushes) == ("r:5000/gpustead", True)
    assert found.announcement["workspace"] == {"ref": pushed["ref"], "key": "c" * 64}
    assert found.places == ["r:5000", "localhost"]
    # An earlier image that no registry has cannot be chosen for all nodes.
    assert plan(Settings(**ROLE, tag="cc"), built_here(registry="r:5000", pull_from="r:5000")).selected == []
    assert plan(Settings(**ROLE, tag="cc", alone=True), built_here()).selected != []


# What a node that asks the share finds there, and what is said where it names no image for it.
UNRECORDED: dict[str, tuple[dict[str, Any], str]] = {
    "an image": ({"shared": record("a")}, ""),
    "nothing": ({"shared": ""}, "is not there: no image was pushed yet"),
    "nothing to be read": ({"shared": "", "unread": "it is a FIFO"}, "cannot be read"),
    "no record": ({"shared": "{}\nx"}, "is damaged"),
    "a tag": ({"shared": {**record("a"), "workspace": {"ref": "r:5000/x:latest", "key": "a" * 64}}}, "is damaged"),
    "no image": ({"shared": {**record("a"), "workspace": {}}}, "names no image"),
    "another registry": (
        {"shared": record("a"), "registry": "s:5000"}, "names an image of another registry or repository",
    ),
    "a variant": ({"shared": record("a", variants={"volta": record("b")}), "variant": "volta"}, ""),
    "no variant": (
        {"shared": record("a"), "variant": "volta"}, "has no image for the nodes of volta (images_variants) yet",
    ),
    "no variant of this run": (
        {"announced": record("a"), "variant": "volta"}, "has no image for the nodes of volta (images_variants) yet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNRECORDED)
def test_a_record_without_an_image_is_called_what_it_is(case: str) -> None:
    observed, words = UNRECORDED[case]
    texts: dict[str, Any] = {"registry": "r:5000", "pull_from": "r:5000"}
    texts |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in observed.items()}
    found = plan(Settings(**ROLE), Observed(**texts))
    assert (found.unrecorded, bool(found.ref)) == (words, not words)
