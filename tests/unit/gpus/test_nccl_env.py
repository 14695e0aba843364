# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node's networks to what NCCL and gloo must be told."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.filter.nccl_env import FilterModule

# As iproute2 prints it.
ROUTE = '[{"dst":"10.20.0.12","dev":"eth0","prefsrc":"10.20.0.11","flags":[],"uid":0,"cache":[]}]\n'
LOCAL = '[{"type":"local","dst":"10.20.0.11","dev":"lo","prefsrc":"10.20.0.11","flags":[],"cache":["local"]}]\n'
ETH0 = {"NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0"}
NICS = ["mlx5_10", "mlx5_2", "mlx5_bond_0", "mlx5_2"]
CASES: dict[str, tuple[dict[str, Any], list[str], dict[str, str]]] = {
    "nothing known": ({}, [], {}),
    "a route": ({"infiniband": None}, [ROUTE], ETH0),
    "a route to itself": ({}, [LOCAL], {}),
    "no route": ({}, ["[]"], {}),
    "an interface that the site names": (
        {},
        [ROUTE, "bond0"],
        {"NCCL_SOCKET_IFNAME": "=bond0", "GLOO_SOCKET_IFNAME": "bond0"},
    ),
    "an interface and a route that cannot be read": (
        {},
        ["?", "eth1,eth2"],
        {"NCCL_SOCKET_IFNAME": "=eth1,eth2", "GLOO_SOCKET_IFNAME": "eth1,eth2"},
    ),
    "no InfiniBand": ({"infiniband": False, "nics": []}, [ROUTE], {**ETH0, "NCCL_IB_DISABLE": "1"}),
    "no InfiniBand, but cards near the GPUs": ({"infiniband": False, "nics": ["eth1"]}, [], {"NCCL_IB_DISABLE": "1"}),
    "InfiniBand with no card near a GPU": ({"infiniband": True, "nics": []}, [ROUTE], ETH0),
    "InfiniBand": ({"infiniband": True, "nics": NICS}, [], {"NCCL_IB_HCA": "=mlx5_2,mlx5_10,mlx5_bond_0"}),
    "the result of gpu_info": (
        {"infiniband": True, "gpus": [{"nics": ["mlx5_1"]}, {"nics": ["mlx5_0", "mlx5_1"]}, {"nics": []}]},
        [ROUTE],
        {**ETH0, "NCCL_IB_HCA": "=mlx5_0,mlx5_1"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_environment(case: str) -> None:
    facts, arguments, expected = CASES[case]
    assert FilterModule().filters()["nccl_env"](facts, *arguments) == expected


@pytest.mark.parametrize("route", ["not JSON", "{}", "[{}]", "[3]", '[{"dev": 3}]', '{"dev": "eth0"}'])
def test_a_route_that_is_none_is_refused(route: str) -> None:
    with pytest.raises(AnsibleFilterError, match="the JSON of ip -j route get"):
        FilterModule().filters()["nccl_env"]({}, route)
