"""verify.yml passes on a sound cluster, and fails, naming the fault, on a broken one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Lab

BREAKAGES = {
    "a stopped workspace service": (
        "docker compose -p gpustead-workspace stop tensorboard",
        "docker compose -p gpustead-workspace start tensorboard",
        "tensorboard",
    ),
    "a stopped mesh": (
        "docker compose -p gpustead-mesh stop mesh",
        "docker compose -p gpustead-mesh start mesh && sleep 5",
        "mesh",
    ),
    "an account with another id": (
        "usermod -u 1777 grace",
        "usermod -u 1501 grace",
        "grace",
    ),
    "a firewall that is off": ("ufw disable", "ufw --force enable", "ufw"),
}


@pytest.mark.parametrize("case", BREAKAGES)
def test_verify_names_what_is_broken(lab: Lab, tmp_path: Path, case: str) -> None:
    break_it, mend_it, word = BREAKAGES[case]
    node = lab.nodes[1]
    report = tmp_path / "verify.json"
    node.check_output(break_it)
    try:
        done = lab.playbook("playbooks/verify.yml", "-e", f"verify_report={report}")
    finally:
        node.check_output(mend_it)
    assert done.returncode != 0, done.stdout
    problems = json.dumps(json.loads(report.read_text()))
    assert node.name in problems
    assert word in problems
    assert word in done.stdout + done.stderr
