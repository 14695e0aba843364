"""Each contestant is given the same hosts, each once, and what it prints is read as it is meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import contestants
import pytest
from lab import Host, Lab

NODES, NAMES = 10, 50


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, NODES)


def given_to_site(lab: Lab, hosts: list[Host]) -> list[str]:
    argv = list(contestants.site("no_change", hosts, lab.inventory).argv)
    return argv[argv.index("--limit") + 1].split(",")


def given_to_pyinfra(lab: Lab, hosts: list[Host]) -> list[str]:
    targets = json.loads(Path(contestants.pyinfra(lab, hosts).env["BENCH_TARGETS"]).read_text())
    return [host["name"] for host in targets["hosts"]]


def given_to_floor(lab: Lab, hosts: list[Host]) -> list[str]:
    return (contestants.floor(lab, hosts).cwd / "hosts").read_text().splitlines()


@pytest.mark.parametrize("given", [given_to_site, given_to_pyinfra, given_to_floor])
@pytest.mark.parametrize("size", [1, NODES, NAMES])
def test_each_host_is_given_once(lab: Lab, given: Callable[[Lab, list[Host]], list[str]], size: int) -> None:
    hosts = lab.named(size)
    assert Counter(given(lab, hosts)) == {host.name: 1 for host in hosts}


def test_pyinfra_has_the_address_and_the_state_of_each_name(lab: Lab) -> None:
    hosts = lab.named(NAMES)
    targets = json.loads(Path(contestants.pyinfra(lab, hosts).env["BENCH_TARGETS"]).read_text())
    states = {host.container: str(lab.state / host.name) for host in lab.hosts}
    assert targets["hosts"] == [
        {"name": host.name, "address": host.address, "state": states[host.container]} for host in hosts
    ]
