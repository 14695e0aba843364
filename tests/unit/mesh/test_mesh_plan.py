"""What role ssh_mesh makes of its settings and of what it finds; whole files are in roles/test_written_files.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, parse
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import NO_GPUS
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_plan import Observed, Plan, Settings, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.node_records import parse_record

GPUS = {
    **NO_GPUS,
    **{"driver": "nvidia", "device_ids": ["GPU-0", "GPU-1"], "uuids": ["GPU-0", "GPU-1"], "slots": 2},
    **{"device_nodes": ["/dev/nvidia0", "/dev/nvidiactl"], "nics": ["mlx5_0"], "infiniband": True},
}
NODE = {
    "members": {"gpu01": True, "gpu02": True},
    "service_account": {"uid": 941, "gid": 942},
    "address": "10.1.0.1",
    "port": 2222,
}
ROUTE = '[{"dst": "10.1.0.2", "dev": "eth1"}]'
NOTHING = Observed()


def planned(observed: Observed = NOTHING, **settings: Any) -> Plan:
    given = {"host": "gpu01", "user": "ada", "account": {"uid": 1500, "gid": 1600}, "former": [1500, 1501]}
    return plan(Settings(**{**given, **NODE, **settings}), observed)


def offered(**found: Any) -> Observed:
    return Observed({"image": "an/image", "held": [], **found})


def test_the_record_is_one_that_other_nodes_read() -> None:
    found = planned(offered(gpus=GPUS, machine_id="0123", route=ROUTE)).nas_layout[-1]
    assert (found["path"], found["owner"], found["group"]) == (".cluster/nodes/gpu01.json", 941, 942)
    record = parse_record(found["content"], "gpu01")
    assert (record.slots, record.gpus, record.interface) == (2, ("GPU-0", "GPU-1"), "eth1")


def test_a_node_without_a_gpu_has_the_slots_of_its_cpus() -> None:
    assert json.loads(planned(cpu_slots=3).nas_layout[-1]["content"])["slots"] == 3


def test_what_accounts_had_of_the_layout_is_taken_from_them() -> None:
    assert [(entry["path"], entry["mode"]) for entry in planned().nas_layout[:-1]] == [
        *((".cluster", "0755"), (".cluster/nodes", "0755"), (".cluster/accounts", "0755"), (".cluster/mesh", "1775"))
    ]
    assert planned().owned == {"owner": 941, "group": 942, "former": [1500, 1501]}


def test_the_site_wins_over_what_was_found_and_the_role_over_both() -> None:
    found = planned(offered(gpus=GPUS, route=ROUTE), node_env={"NCCL_IB_HCA": "=x", "GPUSTEAD_SUDO": "1"})
    assert found.node_env == {
        **{"GPUSTEAD_NODE": "gpu01", "NCCL_SOCKET_IFNAME": "=eth1", "GLOO_SOCKET_IFNAME": "eth1"},
        **{"NCCL_IB_HCA": "=x", "GPUSTEAD_SUDO": "1"},
    }
    assert (found.environment["GPUSTEAD_SUDO"], found.environment["GPUSTEAD_UID"]) == ("0", "1500")


def test_a_container_that_passes_for_the_meshs_is_named_before_compose_removes_one() -> None:
    what = "service gpustead-mesh/mesh: container x passes for one of it: its image has the labels"
    alike = {"name": "gpustead-mesh", "what": what, "expected": "that only Compose gives these", "remedy": "Remove it."}
    with pytest.raises(GpusteadError, match="container x passes for one of it"):
        planned(offered(blocked=[alike]))
    assert planned(offered(blocked=[]))


def test_without_gpus_the_container_asks_for_none_whatever_its_image_asks_for() -> None:
    assert planned().environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in planned(offered(gpus=GPUS, route=ROUTE)).environment


@pytest.mark.parametrize("setting", ["env", "node_env"])
def test_no_secret_stands_where_others_read_it(setting: str) -> None:
    given: dict[str, Any] = {setting: {"NCCL_DEBUG": "INFO", "HF_TOKEN": "hunter2"}}
    with pytest.raises(GpusteadError, match=rf"ssh_mesh_{setting}: HF_TOKEN \(not shown\)") as refused:
        planned(**given)
    assert "hunter2" not in str(refused.value)
    assert "~/.deepspeed_env" in refused.value.remedy


def test_an_interface_that_is_set_needs_no_route() -> None:
    assert planned(interface="ib0").node_env["GLOO_SOCKET_IFNAME"] == "ib0"


@pytest.mark.parametrize(
    ("infiniband", "gpus", "expected"),
    [
        (False, None, []),
        (True, None, ["/dev/infiniband"]),
        (True, GPUS, ["/dev/infiniband", "/dev/nvidia0", "/dev/nvidiactl"]),
    ],
)
def test_devices_of_the_container(infiniband: bool, gpus: dict[str, Any] | None, expected: list[str]) -> None:
    assert planned(offered(gpus=gpus, infiniband=infiniband)).devices == expected


def test_the_container_binds_what_is_mounted_for_it() -> None:
    found = planned(propagation="rprivate")
    places = {place.name: place for place in map(parse, found.places)}
    assert {bind.host for bind in found.binds if bind.name} == {f"{DIRECTORY}/ssh_mesh/{name}" for name in places}
    assert (places["homes"].owner, places["shared"].only_account, places["mesh"].read_only) == (941, 1500, True)
    assert (places["accounts"].owner, places["accounts"].read_only) == (941, True)
    assert [bind.path for bind in found.binds if not bind.read_only] == ["/home", "/shared", "/run/gpustead/door"]
    assert {bind.propagation for bind in found.binds} == {"rprivate"}


def test_nothing_of_the_container_depends_on_who_the_accounts_are() -> None:
    before, after = planned(), planned(former=[1500, 1501, 1502], user_names="ada, bob, carol")
    assert (before.environment, before.binds, before.places) == (after.environment, after.binds, after.places)


def test_accounts_come_from_the_networks_of_the_nodes_by_keys_of_their_own() -> None:
    found = planned(network=["10.1.0.0/24", "fd00::/64"]).environment
    assert found["GPUSTEAD_SSH_FROM"] == "10.1.0.0/24,fd00::/64"
    assert found["GPUSTEAD_SSH_KEYS"] == ".config/gpustead/mesh_key.pub"
    assert "GPUSTEAD_SSH_FROM" not in planned().environment


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (NOTHING, []),
        (Observed(drifted=["container gpustead-mesh/mesh", "file /x"]), ["mesh"]),
        (Observed(replaced=["homes"]), ["mesh"]),
    ],
)
def test_a_container_that_runs_otherwise_is_recreated(observed: Observed, expected: list[str]) -> None:
    assert planned(observed).recreate == expected


SQUATTER = {"port": 2222, "account": "bob", "pid": 7, "command": "python3"}


@pytest.mark.parametrize(
    ("settings", "observed", "words"),
    [
        ({"account": {}, "user_names": "bob"}, NOTHING, r"'ada' is not an account .* one of cluster_users \(bob\)"),
        ({"host": "gpu03"}, NOTHING, r"gpu03 is not in ssh_mesh_nodes \['gpu01', 'gpu02'\]"),
        ({"image_file": "/x"}, offered(image=""), "/x is missing .* Run role images first, or set ssh_mesh_image"),
        ({}, offered(held=[SQUATTER]), r"port 2222 \(the mesh's sshd\) is taken by process 7 \(python3\) of .*'bob'"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(settings: dict[str, Any], observed: Observed, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        planned(observed, **settings)


def test_the_image_of_the_site_wins_and_in_a_check_there_may_be_none_yet() -> None:
    assert planned(offered(), image="my/image").image == "my/image"
    assert planned(replace(offered(image=""), check=True)).image == planned().image == ""


def test_another_port_may_be_taken() -> None:
    assert planned(offered(held=[SQUATTER]), port=2223).image == "an/image"


def test_the_group_of_an_account_is_its_uid_where_none_is_declared() -> None:
    assert planned(account={"uid": 1500}).gid == 1500
