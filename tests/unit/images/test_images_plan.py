"""The plan of role images: what earlier versions rendered from the same settings, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.images.plan import Observed, Settings, plan

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
    assert found.paths == [
        "/b/stack/base", "/b/stack/ours", "/b/sources/ours", "/b/sources/ours/source",
        "/b/stack/base/ca", "/b/stack/base/ca/site.pem", "/b/wheelhouse/python.lock",
    ]  # fmt: skip


def test_before_anything_is_known() -> None:
    found = plan(Settings(**ROLE, extra=["alpine:3"]), Observed())
    assert (found.announcement, found.ref, found.wanted, found.superfluous) == ({}, "", ["alpine:3"], [])
    assert plan(Settings(**ROLE, tag="abc"), Observed()).announcement == {}
