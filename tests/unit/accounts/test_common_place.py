# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What accounts have in common: who is in which group, whose the places are, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.common_place import (
    entries,
    environment,
    parse,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import Owner

RAW: dict[str, Any] = {
    "group": {"name": "cluster", "gid": 1400},
    "directories": [{"name": "vision", "gid": "1410", "members": ["ada"]}],
    "datasets": {"name": "data", "gid": 1401, "members": ["bob"]},
    "caches": {"huggingface": "common", "pip": "own"},
}
ADA = {"uid": 1500, "gid": 1600}


def test_the_places_in_the_root_of_the_share_are_made_by_the_group_that_may_write_there() -> None:
    found = entries(parse(RAW), ADA, Owner(941, 942), [1500])
    top = [one for one in found if "/" not in one["path"]]
    assert [942 in (one["group"], one.get("through")) for one in top] == [True] * 3


def test_nothing_is_opened_again_where_several_may_write() -> None:
    found = entries(parse(RAW), ADA, Owner(941, 942), [1500])
    assert {one["path"] for one in found if one.get("once")} == {"shared/.cache", "shared/.cache/huggingface"}


def made(raw: dict[str, Any]) -> dict[str, tuple[int, int, str, bool]]:
    found = entries(parse(raw), ADA, Owner(941, 942), [1500])
    return {one["path"]: (one["owner"], one["group"], one["mode"], one.get("inherit", False)) for one in found}


def test_whose_the_places_are() -> None:
    assert made(RAW) == {
        "shared": (1500, 1400, "2775", True),
        "shared/.cache": (1500, 1400, "2775", True),
        "shared/.cache/huggingface": (1500, 1400, "2775", True),
        "datasets": (941, 1401, "2775", True),
        "groups": (941, 942, "0755", False),
        "groups/vision": (941, 1410, "2770", True),
    }


def test_without_a_group_the_shared_place_is_its_owners_as_before() -> None:
    assert made({}) == {"shared": (1500, 1600, "2775", False)}
    assert entries(parse({}), {}, Owner(941, 942), []) == []


def test_who_is_in_which_group() -> None:
    common = parse(RAW)
    names = ("ada", "bob", "carol")
    assert {name: [group.name for group in common.groups if group.has(name)] for name in names} == {
        "ada": ["cluster", "vision"],
        "bob": ["cluster", "data"],
        "carol": ["cluster"],
    }


def test_caches_in_common_take_no_token_along() -> None:
    assert environment(parse(RAW).caches) == {
        "HF_HUB_CACHE": "/shared/.cache/huggingface/hub",
        "HF_DATASETS_CACHE": "/shared/.cache/huggingface/datasets",
    }


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name of the system's": ({"group": {"name": "docker", "gid": 1400}}, "cluster_group: group 'docker'"),
    "no name": ({"directories": [{"gid": 1400}]}, "cluster_group_dirs: group ''"),
    "a way out": ({"directories": [{"name": "../x", "gid": 1400}]}, "cluster_group_dirs: group '../x'"),
    "a system's gid": ({"group": {"name": "cluster", "gid": 4}}, "gid 4 of group cluster"),
    "no gid": ({"datasets": {"name": "data"}}, r"cluster_datasets: gid \(none\)"),
    "one gid for two": ({**RAW, "datasets": {"name": "data", "gid": 1400}}, "gid 1400 twice"),
    "one name for two": ({**RAW, "datasets": {"name": "vision", "gid": 1402}}, "name vision twice"),
    "a cache of nothing": ({**RAW, "caches": {"npm": "common"}}, "cluster_caches has npm: common"),
    "a cache of nobody": ({"caches": {"pip": "common"}}, "Set cluster_group"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused(case: str) -> None:
    raw, said = BAD[case]
    with pytest.raises(GpusteadError, match=said):
        parse(raw)
