"""Fixtures for the tests that look at a converged lab from outside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra

PROJECT = Path(__file__).resolve().parents[2]


def plain_environment() -> dict[str, str]:
    """The environment without the timings that make asks of Ansible: they would stand between its results."""
    return {name: value for name, value in os.environ.items() if name != "ANSIBLE_CALLBACKS_ENABLED"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", default="inventory/lab", help="inventory directory of a converged lab")


@dataclass
class Host:
    """One host of the lab, reached over SSH as root."""

    name: str
    address: str
    inventory: Path
    variables: dict[str, Any]
    connection: Any = field(repr=False)

    @property
    def address6(self) -> str:
        """The host's IPv6 address on the lab's network."""
        out: str = self.run("ip -6 -o addr show dev eth0 scope global").stdout
        return out.split()[3].split("/", maxsplit=1)[0]

    def run(self, command: str) -> Any:
        """Runs a shell command; the result has rc, stdout and stderr. 255 comes as 254: it is ssh's own failure."""
        return self.connection.run(f"(\n{command}\n)\ncode=$?; [ $code -ne 255 ] || code=254; exit $code")

    def check_output(self, command: str) -> str:
        """Runs a shell command that must succeed and returns what it printed, stripped."""
        result = self.run(command)
        assert result.rc == 0, f"{self.name}: {command}: {result.stdout}{result.stderr}"
        return str(result.stdout).strip()

    def module(self, name: str, args: dict[str, Any], check: bool = False) -> dict[str, Any]:
        """Runs one Ansible module on the host and returns its result."""
        command = ["ansible", self.name, "-i", str(self.inventory), "-m", name]
        command += ["-a", json.dumps(args)] if args else []
        if check:
            command += ["--check", "--diff"]
        environment = {
            **plain_environment(),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        }
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        try:
            report = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            pytest.fail(f"{command}: {done.stdout}{done.stderr}")
        result: dict[str, Any] = report["plays"][0]["tasks"][0]["hosts"][self.name]
        return result

    def compose(self, project: str, service: str, command: str, user: str | None = None) -> Any:
        """Runs a command in a container of one of the host's compose stacks."""
        as_user = f"--user {user} " if user else ""
        return self.run(f"docker compose --project-name {project} exec -T {as_user}{service} {command}")


@dataclass
class Lab:
    """A converged lab and its inventory."""

    inventory: Path
    hosts: dict[str, Host]
    groups: dict[str, list[str]]

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def nodes(self) -> list[Host]:
        """The GPU-node stand-ins, in the order of the inventory."""
        return [self.hosts[name] for name in self.groups["gpu_nodes"]]

    @property
    def owner(self) -> str:
        """The user who owns the workspaces and the mesh."""
        name: str = self.nodes[0].variables["cluster_users"][0]["name"]
        return name

    def playbook(
        self,
        *args: str,
        inventories: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs ansible-playbook against the lab; the caller looks at the exit status and the output.

        One that takes longer than `seconds` raises subprocess.TimeoutExpired.
        """
        command = ["ansible-playbook", "-i", str(self.inventory)]
        for extra in inventories:
            command += ["-i", str(extra)]
        variables = {**plain_environment(), "ANSIBLE_NOCOLOR": "1", **(environment or {})}
        return subprocess.run(
            [*command, *args], cwd=PROJECT, env=variables, capture_output=True, text=True, check=False, timeout=seconds
        )


def read_lab(inventory: Path, sockets: Path) -> Lab:
    """Reads a lab's inventory; connections are opened when they are first used."""
    listing = subprocess.run(
        ["ansible-inventory", "-i", str(inventory), "--list"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    data = json.loads(listing.stdout)
    hosts = {}
    for name, variables in data["_meta"]["hostvars"].items():
        address = variables["ansible_host"]
        connection = testinfra.get_host(
            f"ssh://root@{address}",
            ssh_identity_file=str(inventory / ".ssh/id_ed25519"),
            ssh_extra_args=f"-o UserKnownHostsFile={inventory}/.ssh/known_hosts "
            f"-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={sockets}/%h",
        )
        hosts[name] = Host(name, address, inventory, variables, connection)
    groups = {name: group.get("hosts", []) for name, group in data.items() if name != "_meta"}
    return Lab(inventory, hosts, groups)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    inventory = (PROJECT / str(request.config.getoption("--inventory"))).resolve()
    return read_lab(inventory, tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="session")
def fresh_host(lab: Lab) -> Host:
    """A bare host on which a test may make accounts; no host of the cluster."""
    return lab["outsider"]
