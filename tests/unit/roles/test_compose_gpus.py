# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What workspace and mesh make of the file that role nvidia leaves, read and rendered by Ansible itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]

# What the roles read on the host, and the files they write from it. No root, no NAS, no Docker.
PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    __workspace_receipt: {previous: [], drifted: []}
  tasks:
    - {ansible.builtin.import_role: {name: gpustead.cluster.workspace}, tags: [never]}  # for its variables
    - {ansible.builtin.import_role: {name: gpustead.cluster.ssh_mesh}, tags: [never]}
    - gpustead.cluster.node_offer_info:
        image_file: "{{ workspace_image_file }}"
        gpus_file: "{{ workspace_gpus_file }}"
      register: __workspace_offer
    - ansible.builtin.set_fact:
        __ssh_mesh_offer: "{{ __workspace_offer | combine({'infiniband': test_infiniband}) }}"
    - ansible.builtin.template:
        src: "{{ test_roles }}/{{ item }}/templates/compose.yml.j2"
        dest: "{{ cluster_config_dir }}/{{ item }}.yml"
        mode: "0600"
      loop: [workspace, ssh_mesh]
      vars:
        __ssh_mesh_files_digest: x  # looks for mesh-run beside the role's tasks
        __workspace_instance: "{{ __workspace_all | first }}"
    - ansible.builtin.copy:
        content: "{{ {'record': test_record | from_json, 'env': __ssh_mesh_plan.node_env} | to_json }}"
        dest: "{{ cluster_config_dir }}/mesh.json"
        mode: "0600"
      vars:
        test_record: "{{ __ssh_mesh_plan.nas_layout[-1].content }}"
"""

CDI: dict[str, Any] = {
    "schema": 1,
    "state": "ready",
    "driver": "cdi",
    "device_ids": ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"],
    "uuids": ["GPU-1", "GPU-2"],
    "device_nodes": [],
    "slots": 2,
    "nics": ["mlx5_10", "mlx5_2"],
    "infiniband": True,
}
HOOK: dict[str, Any] = {
    **CDI,
    "driver": "nvidia",
    "device_ids": ["GPU-1", "GPU-2"],
    "device_nodes": ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"],
    "nics": [],
    "infiniband": False,
}
MIG = {**CDI, "device_ids": ["nvidia.com/gpu=MIG-1"], "uuids": ["MIG-1"], "slots": 1, "nics": [], "infiniband": False}
NONE = {
    **{"schema": 1, "state": "none", "driver": None, "device_ids": [], "uuids": [], "device_nodes": [], "slots": 0},
    **{"nics": [], "infiniband": False},
}
NO_IB = {"NCCL_IB_DISABLE": "1"}

# The file, whether /dev/infiniband is there; the reservation, devices of workspace and mesh, slots and UUIDs, NCCL.
CASES: dict[str, tuple[dict[str, Any] | None, bool, Any, list[str], list[str], int, dict[str, str]]] = {
    "no file": (None, False, None, [], [], 3, {}),
    "no GPU": (NONE, False, None, [], [], 3, NO_IB),
    "no GPU, but InfiniBand": ({**NONE, "infiniband": True}, True, None, [], ["/dev/infiniband"], 3, {}),
    "a GPU that cannot be used": ({**NONE, "state": "unusable"}, False, None, [], [], 3, NO_IB),
    "cdi": (CDI, True, "cdi", [], ["/dev/infiniband"], 2, {"NCCL_IB_HCA": "=mlx5_2,mlx5_10"}),
    "cdi with MIG": (MIG, False, "cdi", [], [], 1, NO_IB),
    "the runtime's hook": (HOOK, False, "nvidia", HOOK["device_nodes"], HOOK["device_nodes"], 2, NO_IB),
    "the runtime's hook and InfiniBand": (
        {**HOOK, "infiniband": True},
        True,
        "nvidia",
        HOOK["device_nodes"],
        ["/dev/infiniband", *HOOK["device_nodes"]],
        2,
        {},
    ),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directory of each case: all are hosts of one run."""
    root = tmp_path_factory.mktemp("compose")
    folders = {case: root / f"case{number}" for number, case in enumerate(CASES)}
    for case, folder in folders.items():
        folder.mkdir()
        if CASES[case][0] is not None:
            (folder / "gpus.json").write_text(json.dumps(CASES[case][0]))
    hosts = {
        folder.name: {"cluster_config_dir": str(folder), "test_infiniband": CASES[case][1]}
        for case, folder in folders.items()
    }
    variables = {
        "cluster_users": [{"name": "ada", "uid": 1500}],
        "cluster_cpu_slots": 3,
        "workspace_image": "workspace",
        "ssh_mesh_image": "workspace",
        "ssh_mesh_interface": "eth7",
        "test_roles": str(ROOT / "roles"),
    }
    (root / "hosts.json").write_text(json.dumps({"all": {"vars": variables}, "gpu_nodes": {"hosts": hosts}}))
    (root / "play.yml").write_text(PLAYBOOK)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [ansible, "-i", root / "hosts.json", root / "play.yml"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folders


@pytest.mark.parametrize("case", CASES)
def test_stacks_follow_the_gpus(rendered: dict[str, Path], case: str) -> None:
    gpus, _, driver, workspace_devices, mesh_devices, slots, nccl = CASES[case]
    folder = rendered[case]
    workspace = yaml.safe_load((folder / "workspace.yml").read_text())["services"]
    mesh_text = (folder / "ssh_mesh.yml").read_text()
    mesh = yaml.safe_load(mesh_text)["services"]["mesh"]
    assert mesh_text.count("\n    devices:") <= 1
    expected = (
        [{"driver": driver, "device_ids": gpus["device_ids"], "capabilities": ["gpu"]}] if gpus and driver else None
    )
    for service in (*workspace.values(), mesh):
        reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
        assert reserved == expected
        assert service["cap_drop"] == ["MKNOD"]
    assert [service.get("devices", []) for service in workspace.values()] == [workspace_devices] * len(workspace)
    assert mesh.get("devices", []) == mesh_devices

    written = json.loads((folder / "mesh.json").read_text())
    record, env = written["record"], written["env"]
    assert (record["slots"], record["gpus"], record["interface"]) == (slots, (gpus or NONE)["uuids"], "eth7")
    assert env == {
        "GPUSTEAD_NODE": folder.name,
        "NCCL_SOCKET_IFNAME": "=eth7",
        "GLOO_SOCKET_IFNAME": "eth7",
        **nccl,
    }
    assert {name: mesh["environment"][name] for name in env} == env
