"""What ten hosts cost, counted: the lab's nodes under ten names, each with an address and receipts of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, Lab, read_lab
from support import converge, logins, recap, stale

sys.path.insert(0, str(PROJECT / "bench"))
import lab as bench

NAMES = 10


@pytest.fixture
def grown(lab: Lab, tmp_path: Path) -> Iterator[bench.Lab]:
    converge(lab)
    known = lab.inventory / ".ssh/known_hosts"
    before = known.read_text()
    many = bench.Lab(tmp_path, len(lab.nodes))
    many.inventory = lab.inventory
    many.hosts = [
        bench.Host(node.name, node.address, f"gpustead-{node.variables['cluster_name']}-{node.name}")
        for node in lab.nodes
    ]
    many.grow(NAMES)
    yield many
    known.write_text(before)
    for host in many.named(NAMES)[len(lab.nodes) :]:
        bench.inside(host, ["ip", "address", "del", f"{host.address}/24", "dev", "eth0"])
    for node in lab.nodes:
        node.check_output("rm -r /var/lib/gpustead/bench")


def test_nothing_to_do_is_one_task_and_one_login_for_each_of_ten_hosts(
    lab: Lab, grown: bench.Lab, tmp_path: Path
) -> None:
    ten = read_lab(grown.growth, tmp_path)
    for node in lab.nodes:
        node.check_output("true")  # our own connection stands
    before = {node.name: logins(node) for node in lab.nodes}
    done = ten.playbook(
        "site.yml", "--limit", "gpu_nodes", environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path / "cp")}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert stale(done.stdout) == {}
    # One for the inventory and one for all hosts, with the first of which they are counted.
    assert list(recap(done.stdout).values()) == [2]
    assert f"{NAMES} of {NAMES} hosts are as their roles left them" in done.stdout
    names = Counter(host.container for host in grown.named(NAMES))
    assert {node.name: logins(node) - before[node.name] for node in lab.nodes} == {
        host.name: names[host.container] for host in grown.hosts
    }
