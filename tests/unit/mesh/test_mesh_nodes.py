"""Where the nodes of the mesh are."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_nodes import endpoints


def test_each_node_has_its_own_address_and_port_as_far_as_it_is_known() -> None:
    variables: dict[str, dict[str, Any]] = {
        "b": {"cluster_address": "10.0.0.2", "ansible_host": "192.0.2.2", "ssh_mesh_port": 2300},
        "a": {"ansible_host": "192.0.2.1"},
        "c": {},
    }
    found = endpoints(["b", "a", "c", "unknown"], variables, 2222)
    assert list(found.items()) == [
        ("b", {"address": "10.0.0.2", "port": 2300}),
        ("a", {"address": "192.0.2.1", "port": 2222}),
        ("c", {"address": "c", "port": 2222}),
        ("unknown", {"address": "unknown", "port": 2222}),
    ]
