"""Limits of a workspace as a whole, where a kernel has cgroups of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import Host, Lab
from machines import tell

# A guest of user-mode Linux maps single pages: at a good gigabyte its host refuses it more of them (vm.max_map_count).
LIMITS = {"memory": "1024mb", "cpus": 0.75, "pids": 700}
SLICE = "/sys/fs/cgroup/gpustead_1500.slice"


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Host]:
    """A node whose workspace has limits."""
    settings = json.dumps({"workspace_instances": [{"owner": "ada", "limits": LIMITS}]})
    done = lab.playbook("site.yml", "--limit", lab.nodes[0].name, "-e", settings)
    assert done.returncode == 0, done.stdout + done.stderr
    yield lab.nodes[0]
    done = lab.playbook("site.yml", "--limit", lab.nodes[0].name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpustead_1500" not in tell(lab.nodes[0], "ls /etc/systemd/system")


def test_the_slice_has_the_limits_and_all_containers(node: Host) -> None:
    limits = tell(node, f"cat {SLICE}/memory.max {SLICE}/cpu.max {SLICE}/pids.max").split()
    assert limits == [str(1024 << 20), "75000", "100000", "700"]
    for service in ("jupyter", "tensorboard", "gradio", "ssh"):
        pid = tell(node, f"docker inspect --format '{{{{.State.Pid}}}}' gpustead-workspace-{service}-1")
        assert "/gpustead_1500.slice/docker-" in tell(node, f"cat /proc/{pid.strip()}/cgroup")


def test_what_takes_more_memory_than_all_may_have_is_ended(node: Host) -> None:
    take = "docker exec gpustead-workspace-ssh-1 python3 -c 'len(b\"x\" * (2 << 30))'; echo $?"
    assert tell(node, take).split()[-1] == "137"
