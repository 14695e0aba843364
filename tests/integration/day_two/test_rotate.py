"""The mesh gets another authority while a run goes on and a node is down, which returns later.

About 25 minutes: up to nine runs of the site.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Host, Lab
from support import assert_fresh, site

MESH = ("gpustead-mesh", "mesh")
CERTIFICATE = "/etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key-cert.pub"
TRUSTED = "/usr/local/lib/gpustead/mesh/known_hosts"


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def until(done: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)


def rotate(lab: Lab, *words: str) -> Any:
    return lab.playbook("playbooks/rotate.yml", *words)


@contextmanager
def paused(lab: Lab, node: Host) -> Iterator[None]:
    container = f"gpustead-{node.variables['cluster_name']}-{node.name}"
    subprocess.run(["docker", "pause", container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", container], check=True, capture_output=True)


def authorities(host: Host) -> list[str]:
    lines = host.check_output(f"cat {TRUSTED}").splitlines()
    return [" ".join(line.split()[2:4]) for line in lines if line.startswith("@cert-authority")]


def signer(host: Host) -> str:
    found = re.search(r"Signing CA: ED25519 (\S+)", host.check_output(f"ssh-keygen -L -f {CERTIFICATE}"))
    assert found
    return found[1]


def secret(lab: Lab, name: str) -> bool:
    return (lab.inventory / ".secrets" / f"ssh_mesh_ca{name}").exists()


def all_reach_all(lab: Lab) -> None:
    for host in lab.nodes:
        done = host.compose(*MESH, "mesh-run --launcher none hostname", user=lab.owner)
        assert done.rc == 0 and len(done.stdout.split()) == len(lab.nodes), done.stderr


def test_a_run_goes_on_and_a_node_that_was_down_comes_last(lab: Lab) -> None:
    site(lab)
    first, late = lab.nodes[0], lab.nodes[-1]
    (old,) = authorities(first)
    before = signer(first)
    others = ",".join(node.name for node in lab.nodes[:2])
    command = (
        f'bash -c "cd ~ && nohup mesh-run --nodes {others} --launcher none sleep 2000 > /tmp/log 2>&1 < /dev/null &"'
    )
    first.compose(*MESH, command, user=lab.owner)
    until(lambda: lab.nodes[1].run("pgrep -fx 'sleep 2000'").stdout, 60)
    started = lab.nodes[1].check_output("pgrep -fx 'sleep 2000'")

    with paused(lab, late):
        done = rotate(lab)
        assert f"this waits for {late.name}" in flat(done.stdout), done.stdout + done.stderr
    # Nothing is signed by what it does not trust yet: all reach all, whoever was down.
    assert {signer(host) for host in lab.nodes} == {before} and secret(lab, ".next") and not secret(lab, ".former")
    assert len(authorities(first)) == 2 and authorities(late) == [old]
    all_reach_all(lab)

    done = rotate(lab)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nobody trusts a former one" in flat(done.stdout)
    signers = {signer(host) for host in lab.nodes}
    assert len(signers) == 1 and signers != {before}
    for host in lab.nodes:
        (new,) = authorities(host)
        assert new != old
    assert not secret(lab, ".next") and not secret(lab, ".former")
    # Sessions went on, and with them the run.
    assert lab.nodes[1].check_output("pgrep -fx 'sleep 2000'") == started
    first.compose(*MESH, "mesh-run stop all", user=lab.owner)
    all_reach_all(lab)
    assert_fresh(lab)
    assert lab.playbook("playbooks/verify.yml").returncode == 0


@pytest.mark.parametrize("seconds", [20, 60, 100, 140])
def test_killed_at_any_moment_all_reach_all_and_the_next_run_finishes_it(lab: Lab, seconds: int) -> None:
    (old,) = authorities(lab.nodes[0])
    with pytest.raises(subprocess.TimeoutExpired):
        lab.playbook("playbooks/rotate.yml", seconds=seconds)
    until(lambda: not lab.nodes[0].run("pgrep -f AnsiballZ").stdout, 60)
    all_reach_all(lab)
    done = rotate(lab)
    assert done.returncode == 0 and "nobody trusts a former one" in flat(done.stdout), done.stdout + done.stderr
    assert all(old not in authorities(host) for host in lab.nodes)
    all_reach_all(lab)


def test_a_check_begins_nothing(lab: Lab) -> None:
    rotate(lab, "--check")
    assert not secret(lab, ".next") and not secret(lab, ".former")
