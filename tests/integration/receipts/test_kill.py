"""A run of site.yml killed at a random moment vouches for nothing unfinished, and the next one completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from support import STATE, assert_fresh, converge, members, site

# Printed with the test's name, so that a failure can be had again.
SEED = int(os.environ.get("KILL_SEED", "20"))
MOMENTS = [tenth / 10 for tenth in sorted(random.Random(SEED).sample(range(50, 600), 10))]


@pytest.fixture(scope="module", autouse=True)
def _converged(lab: Lab) -> None:
    converge(lab)


def files(host: Host) -> set[str]:
    return set(host.check_output(f"ls {STATE}").split())


def both(host: Host) -> set[str]:
    """Roles that have begun, have not ended, and whose receipt vouches all the same."""
    found = files(host)
    return {name.removesuffix(".run") for name in found if name.endswith(".run")} & {
        name.removesuffix(".json") for name in found if name.endswith(".json")
    }


def killed(lab: Lab, seconds: float) -> bool:
    """Whether a forced run was still at it when it was killed with all its children."""
    with subprocess.Popen(
        ["ansible-playbook", "-i", str(lab.inventory), "site.yml", "-e", "site_force=true"],
        cwd=PROJECT,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_session(run.pid)
            return True
    return False


def kill_session(leader: int) -> None:
    """Ansible's workers are leaders of process groups of their own; the session is what they have in common."""
    found = subprocess.run(["ps", "-o", "pid=", "--sid", str(leader)], capture_output=True, text=True, check=False)
    for pid in {leader, *map(int, found.stdout.split())}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("seconds", MOMENTS)
def test_no_receipt_of_what_a_killed_run_left_unfinished(lab: Lab, seconds: float) -> None:
    assert killed(lab, seconds), f"the run ended before {seconds} s: choose other moments"
    time.sleep(3)  # what a module has begun on a host ends there by itself
    assert {host.name: both(host) for host in members(lab)} == {host.name: set() for host in members(lab)}


def test_the_next_run_completes_it(lab: Lab) -> None:
    site(lab)
    assert {name for host in members(lab) for name in files(host) if name.endswith(".run")} == set()
    assert_fresh(lab)
