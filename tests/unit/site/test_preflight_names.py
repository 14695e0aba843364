"""Names that nothing reads: what is told apart, without an inventory."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight import names

OURS = ("gpu_nodes", "nas_server", "registry", "registry_caches")
KNOWN = ("cluster_network", "cluster_users", "docker_live_restore", "firewall_ssh_sources", "site_force")
PREFIXES = ("site_", "firewall_", "docker_", "cluster_")


@pytest.mark.parametrize(
    ("group", "meant"),
    [
        ("nas_servers", "nas_server"),
        ("NAS-Server", "nas_server"),
        ("gpu_node", "gpu_nodes"),
        ("gpunodes", "gpu_nodes"),
        ("registries", "registry"),
        ("registry_cache", "registry_caches"),
        ("web", ""),
        ("nas", ""),
        ("gpu_nodes_of_berlin", ""),
    ],
)
def test_groups_close_to_ours(group: str, meant: str) -> None:
    assert names.near_groups({group: ["a"]}, OURS) == ({group: meant} if meant else {})


def test_a_group_whose_hosts_are_all_in_ours_is_no_mistake() -> None:
    groups = {"gpu_nodes": ["a", "b"], "gpu_nodes_a": ["a"], "gpu_node": []}
    assert names.near_groups(groups, OURS) == {}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("firewall_ssh_source", "Did you mean firewall_ssh_sources?"),
        ("firewall_zone", "Every setting with its default stands in group_vars/all."),
        ("cluser_network", "Did you mean cluster_network?"),
        ("docker_live_restor", "Did you mean docker_live_restore?"),
        ("site_forse", "Did you mean site_force?"),
        ("docker_edition", ""),
        ("site_name", ""),
        ("our_network", ""),
    ],
)
def test_variables_that_look_like_ours(name: str, remedy: str) -> None:
    found = [*names.unknown_variables([name], KNOWN, PREFIXES, [])]
    assert [one.remedy for one in found] == ([remedy] if remedy else [])
    assert [*names.unknown_variables([name], KNOWN, PREFIXES, [name])] == []


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("gpu01", []),
        ("gpu01,!gpu2", ["gpu2"]),
        ("gpu*:~gpu0.:@retry", []),
        ("gpu_nodes,nodes", ["nodes"]),
        ("", []),
    ],
)
def test_names_in_a_limit(limit: str, told: list[str]) -> None:
    found = [*names.unknown_limits(limit, ["gpu01"], ["gpu_nodes"])]
    assert [one.what.split("'")[1] for one in found] == told
