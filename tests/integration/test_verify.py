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


ENDING = """
cd /etc/docker/certs.d/verify.test
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -out ca.crt \
  -subj '/CN=gpustead registry authority' -not_before 20240101000000Z -not_after $(date -u -d '{end}' +%Y%m%d%H%M%SZ)
"""


@pytest.mark.parametrize(("end", "fails"), [("+5 days", False), ("-2 days", True)])
def test_verify_tells_of_an_authority_that_ends(lab: Lab, tmp_path: Path, end: str, fails: bool) -> None:
    node = lab.nodes[1]
    report = tmp_path / "verify.json"
    node.check_output("mkdir -p /etc/docker/certs.d/verify.test")
    try:
        node.check_output(ENDING.format(end=end))
        done = lab.playbook("playbooks/verify.yml", "-e", f"verify_report={report}")
    finally:
        node.check_output("rm -r /etc/docker/certs.d/verify.test")
    told = json.loads(report.read_text())
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    lines = told["lines"] if fails else told["notices"]
    (line,) = [line for line in lines if "the registry's authority (/etc/docker/certs.d/verify.test/ca.crt)" in line]
    assert node.name in line
    assert "move registry_ca.crt out of cluster_secrets_dir" in line
    assert "the registry's authority" in done.stdout + done.stderr
