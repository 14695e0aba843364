"""Which cache each node has."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_caches import of_nodes, places

VARIABLES = {"one": {"cluster_address": "10.0.0.1", "ansible_host": "192.0.2.1"}, "two": {}}


def test_the_nodes_take_the_caches_in_turn_and_a_new_one_moves_no_other() -> None:
    groups = {"gpu_nodes": ["a", "b", "c"], "registry_caches": ["one", "two"]}
    one, two = {"host": "one", "address": "10.0.0.1"}, {"host": "two", "address": "two"}
    assert of_nodes(groups, VARIABLES) == {"a": one, "b": two, "c": one}
    assert of_nodes({**groups, "gpu_nodes": ["a", "b", "c", "d"]}, VARIABLES) == {
        "a": one,
        "b": two,
        "c": one,
        "d": two,
    }


def test_without_caches_no_node_has_one() -> None:
    assert of_nodes({"gpu_nodes": ["a"]}, VARIABLES) == {}
    assert of_nodes({"registry_caches": ["one"]}, VARIABLES) == {}


def test_all_caches_are_places_whoever_has_which() -> None:
    groups = {"gpu_nodes": ["a"], "registry_caches": ["one", "two"]}
    assert places(groups, VARIABLES, 5010) == ["10.0.0.1:5010", "two:5010"]
    assert places({"gpu_nodes": ["a"]}, VARIABLES, 5010) == []
