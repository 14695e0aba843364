"""A run of site.yml killed at a random moment vouches for nothing unfinished, and the next one completes it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from support import STATE, converge, members, site, stale

# Printed with the test's name, so that a failure can be had again.
SEED = int(os.environ.get("KILL_SEED", "20"))
MOMENTS = [tenth / 10 for tenth in sorted(random.Random(SEED).sample(range(50, 600), 10))]


# What a run has written and its handlers have not taken over.
UNREAD = 'test -n "$(find /etc/docker/daemon.json -newer /run/docker.pid)"'
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module", autouse=True)
def _converged(lab: Lab) -> Iterator[None]:
    converge(lab)
    yield
    converge(lab)


def log_size(number: int) -> list[str]:
    """Arguments with which a run of site.yml must restart Docker."""
    return ["-e", json.dumps({"docker_log_opts": {"max-size": f"{number}m", "max-file": "5"}})]


def log_options(node: Host) -> dict[str, str]:
    """What Docker gives a new container: it tells that nowhere else."""
    options: dict[str, str] = json.loads(
        node.check_output(
            "c=$(docker create $(docker image ls -q | head -n 1) true)"
            " && docker inspect -f '{{json .HostConfig.LogConfig.Config}}' $c && docker rm $c > /dev/null"
        )
    )
    return options


def files(host: Host) -> set[str]:
    return set(host.check_output(f"ls {STATE}").split())


def both(host: Host) -> set[str]:
    """Roles that have begun, have not ended, and whose receipt vouches all the same."""
    found = files(host)
    return {name.removesuffix(".run") for name in found if name.endswith(".run")} & {
        name.removesuffix(".json") for name in found if name.endswith(".json")
    }


def killed(lab: Lab, *args: str, when: Callable[[], bool]) -> bool:
    """Whether a run was still at it when it was killed with all its children."""
    with subprocess.Popen(
        ["ansible-playbook", "-i", str(lab.inventory), "site.yml", *args],
        cwd=PROJECT,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        while run.poll() is None:
            if when():
                kill_session(run.pid)
                run.wait()
                time.sleep(3)  # what a module has begun on a host ends there by itself
                return True
            time.sleep(0.05)
    return False


def holds(host: Host, command: str) -> bool:
    return bool(host.run(command).rc == 0)


def kill_session(leader: int) -> None:
    """Ansible's workers are leaders of process groups of their own; the session is what they have in common."""
    found = subprocess.run(["ps", "-o", "pid=", "--sid", str(leader)], capture_output=True, text=True, check=False)
    for pid in {leader, *map(int, found.stdout.split())}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize(("number", "seconds"), list(enumerate(MOMENTS, 60)))
def test_no_receipt_of_what_a_killed_run_left_unfinished(lab: Lab, number: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    args = ["-e", "site_force=true", *log_size(number)]
    assert killed(lab, *args, when=lambda: time.monotonic() > end), f"it ended before {seconds} s: choose other moments"
    assert {host.name: both(host) for host in members(lab)} == {host.name: set() for host in members(lab)}


def assert_complete(lab: Lab, *args: str) -> None:
    """One more run, and none is needed after it."""
    site(lab, *args)
    assert {name for host in members(lab) for name in files(host) if name.endswith(".run")} == set()
    assert stale(site(lab, *args)) == {}


def test_the_next_run_completes_it(lab: Lab) -> None:
    last = 60 + len(MOMENTS) - 1
    assert_complete(lab, *log_size(last))
    assert {node.name: log_options(node).get("max-size") for node in lab.nodes} == {
        node.name: f"{last}m" for node in lab.nodes
    }


def test_docker_runs_as_a_killed_run_had_written(lab: Lab) -> None:
    """The kill hits between the file and the restart: to the next run the file is right."""
    node = lab.nodes[0]
    for number in range(80, 85):
        written = f"grep -q '\"{number}m\"' /etc/docker/daemon.json"
        assert killed(lab, *log_size(number), when=partial(holds, node, written))
        if node.run(UNREAD).rc == 0:
            break
    else:
        pytest.fail("Docker had always been restarted before the run was killed")
    assert_complete(lab, *log_size(number))
    assert {log_options(node)["max-size"] for node in lab.nodes} == {f"{number}m"}
    assert node.run(UNREAD).rc != 0


def authority(folder: Path, number: int) -> Path:
    path = folder / f"killed{number}.crt"
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=killed {number}"]
    target = ["-keyout", str(folder / "key"), "-out", str(path)]
    subprocess.run(["openssl", "req", *kind, *target], check=True, capture_output=True)
    return path


def test_an_authority_that_a_killed_run_removed_is_trusted_no_more(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    usual = node.variables["cluster_ca_certificates"]
    without = ["-e", json.dumps({"base_ca_certificates": usual})]
    for number in range(5):
        path = authority(tmp_path, number)
        trusted = f"grep -qF {path.read_text().splitlines()[3]} {BUNDLE}"
        site(lab, "-e", json.dumps({"base_ca_certificates": [*usual, str(path)]}))
        node.check_output(trusted)
        gone = f"! ls /usr/local/share/ca-certificates/gpustead-*killed{number}.crt"
        assert killed(lab, *without, when=partial(holds, node, gone))
        if node.run(trusted).rc == 0:
            break
    else:
        pytest.fail("The store had always been made anew before the run was killed")
    assert_complete(lab, *without)
    assert {host.run(trusted).rc for host in members(lab)} == {1}
