"""The mesh gets another authority while a run goes on and a node is down, which returns later.

About 30 minutes: up to 30 runs of the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Host, Lab
from second_day import KEY, all_reach_all, away, begin, flat, killed, mesh_run, runs, secret, tidy, until
from support import assert_fresh, site

CERTIFICATE = f"{KEY}-cert.pub"
TRUSTED = "/usr/local/lib/gpustead/mesh/known_hosts"
PROGRAM = "sleep 3000"


@pytest.fixture(autouse=True, scope="module")
def as_it_was(lab: Lab) -> Iterator[None]:
    """With one authority; the rotation that an earlier run was in the middle of is brought to its end."""
    tidy(lab)
    if is_under_way(lab):
        rotate(lab)
    site(lab)
    yield
    tidy(lab)
    if is_under_way(lab):
        rotate(lab)
    assert_fresh(lab)
    assert not is_under_way(lab)


def rotate(lab: Lab, *words: str) -> Any:
    return lab.playbook("playbooks/rotate.yml", *words)


def is_under_way(lab: Lab) -> bool:
    return secret(lab, ".next").exists() or secret(lab, ".former").exists()


def authorities(host: Host) -> list[str]:
    lines = host.check_output(f"cat {TRUSTED}").splitlines()
    return [" ".join(line.split()[2:4]) for line in lines if line.startswith("@cert-authority")]


def signer(host: Host) -> str:
    found = re.search(r"Signing CA: ED25519 (\S+)", host.check_output(f"ssh-keygen -L -f {CERTIFICATE}"))
    assert found
    return found[1]


def test_a_run_goes_on_and_a_node_that_was_down_comes_last(lab: Lab) -> None:
    first, second, late = lab.nodes[0], lab.nodes[1], lab.nodes[-1]
    (old,) = authorities(first)
    before = signer(first)
    begin(lab, 0, 1, program=PROGRAM)
    started = second.check_output(f"pgrep -fx '{PROGRAM}'")

    with away(lab, late) as playbook:
        done = playbook("playbooks/rotate.yml")
        assert f"this waits for {late.name}" in flat(done.stdout), done.stdout + done.stderr
    # Nothing is signed by what it does not trust yet: all reach all, whoever was down.
    assert {signer(host) for host in lab.nodes} == {before}
    assert secret(lab, ".next").exists() and not secret(lab, ".former").exists()
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
    assert not is_under_way(lab)
    # Sessions went on, and with them the run.
    assert second.check_output(f"pgrep -fx '{PROGRAM}'") == started
    mesh_run(lab, "stop all")
    until(lambda: not runs(second, PROGRAM), 40)
    all_reach_all(lab)
    assert_fresh(lab)
    assert lab.playbook("playbooks/verify.yml").returncode == 0


@pytest.mark.parametrize("seconds", [20, 60, 100, 140])
def test_killed_at_any_moment_all_reach_all_and_the_next_run_finishes_it(lab: Lab, seconds: int) -> None:
    (old,) = authorities(lab.nodes[0])
    killed(lab, seconds, "playbooks/rotate.yml")
    all_reach_all(lab)
    # Killed before it had begun, it begins now; otherwise it goes on.
    done = rotate(lab)
    assert done.returncode == 0 and "nobody trusts a former one" in flat(done.stdout), done.stdout + done.stderr
    assert all(old not in authorities(host) for host in lab.nodes)
    all_reach_all(lab)


def test_a_check_begins_nothing(lab: Lab) -> None:
    rotate(lab, "--check")
    assert not is_under_way(lab)
