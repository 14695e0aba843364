"""The plan of role images: what earlier versions rendered from the same settings, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
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
