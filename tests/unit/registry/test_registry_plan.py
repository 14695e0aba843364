"""The plan of role registry: what earlier versions rendered from the same settings, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_plan import Settings, plan

CASES = json.loads((Path(__file__).parents[1] / "fixtures/registry/plans.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_plan(name: str) -> None:
    case = CASES[name]
    # As text: the order of keys and lists is that of the files that the role writes.
    assert json.dumps(vars(plan(Settings(**case["settings"])))) == json.dumps(case["plan"])
