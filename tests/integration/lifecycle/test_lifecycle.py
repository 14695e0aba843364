"""A node that joins, and a node that comes back from nothing. Changes the lab; runs after all other tests."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import PROJECT, Lab, read_lab

MESH = ("gpustead-mesh", "mesh")


def in_container(lab: Lab, name: str, *command: str) -> str:
    """Runs a command on a lab host past its sshd, so that looking leaves no trace in its log."""
    container = f"gpustead-{lab.hosts[lab.groups['gpu_nodes'][0]].variables['cluster_name']}-{name}"
    return subprocess.run(["docker", "exec", container, *command], capture_output=True, text=True, check=True).stdout


def start_hosts(lab: Lab, nodes: int) -> Lab:
    """Runs the lab's own playbook again, for that many nodes, and reads the inventory that it wrote."""
    settings = PROJECT / "molecule/default/vars/lab.yml"
    own = ["-e", f"@{settings}"] if "molecule" in lab.inventory.parts else []
    subprocess.run(
        [
            *("ansible-playbook", "-i", "localhost,", "playbooks/lab.yml", *own),
            *("-e", f"lab_nodes={nodes}", "-e", f"lab_inventory={lab.inventory}"),
        ],
        cwd=PROJECT,
        check=True,
    )
    return read_lab(lab.inventory, Path(tempfile.mkdtemp()))


def accepted_logins(lab: Lab, names: list[str]) -> dict[str, int]:
    """How many SSH logins each host's sshd has let in so far."""
    return {name: in_container(lab, name, "journalctl", "-u", "ssh", "--no-pager").count("Accepted") for name in names}


def train(lab: Lab, head: str, nodes: int) -> str:
    result = lab[head].compose(
        *MESH, f"mesh-run --nodes {nodes} --gpus-per-node 1 /opt/gpustead/examples/train.py", user=lab.owner
    )
    assert result.rc == 0, result.stdout + result.stderr
    return str(result.stdout)


def converge(lab: Lab, limit: str) -> None:
    # Connections that earlier tests left open would let a run reach a host without a login.
    with tempfile.TemporaryDirectory() as sockets:
        done = lab.playbook("site.yml", "--limit", limit, environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": sockets})
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fourth_node_joins_without_a_word_to_the_others(lab: Lab) -> None:
    others = ["gpu01", "gpu02", "gpu03"]
    grown = start_hosts(lab, 4)
    before = accepted_logins(grown, others)
    converge(grown, "gpu04")
    assert accepted_logins(grown, others) == before
    assert re.search(r"OK world_size=4", train(grown, "gpu01", 4))


@pytest.mark.parametrize("name", ["gpu02", "gpu01"])  # gpu01 is the builder as well
def test_a_node_destroyed_comes_back_from_its_inventory_line(lab: Lab, name: str) -> None:
    container = f"gpustead-{lab.nodes[0].variables['cluster_name']}-{name}"
    subprocess.run(["docker", "rm", "--force", "--volumes", container], check=True, capture_output=True)
    again = start_hosts(lab, 4)
    converge(again, name)
    assert re.search(r"OK world_size=4", train(again, name, 4))
