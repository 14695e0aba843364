# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hosts of the benchmark: the project's own lab, converged, and the extra names under which few stand for many."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from timing import Failed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
NAME = "bench"
NETWORK = 215  # 10.215.0.0/16 and fd00:215::/32: where no other lab of ours lies

# What differs from the lab of the tests: images that are small, so that many nodes fit on one machine.
SETTINGS: Mapping[str, Any] = {
    "images_stack": [
        {"name": "base", "context": str(HERE / "stack/base")},
        {"name": "ssh"},
        {"name": "services", "context": str(HERE / "stack/services")},
    ],
    "images_wheelhouse": "",
    "images_min_free_gb": 1,
    "workspace_shm_size": "64mb",
    "workspace_gradio_app": "/dev/null",
}


@dataclass(frozen=True)
class Host:
    """A name in an inventory. Several may be names of one container."""

    name: str
    address: str
    container: str


def step(title: str) -> None:
    print(f"==> {title}", flush=True)


def environment() -> dict[str, str]:
    """As a user runs it from the checkout, but for Ansible's usual output, of which the results are read."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PROFILE_TASKS"))}
    return {**ours, "PATH": f"{BIN}:{ours['PATH']}", "ANSIBLE_STDOUT_CALLBACK": "default"}


def call(*argv: str, cwd: Path = ROOT, quiet: bool = True) -> str:
    """A step of the preparation; its output is shown where it fails."""
    done = subprocess.run(
        argv, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}:\n{excerpt(done.stdout or '')}")
    return done.stdout or ""


def excerpt(output: str) -> str:
    """Where it went wrong, and the end."""
    first = re.search(r"^(fatal|failed|ERROR|\[ERROR\]):?.*", output, re.MULTILINE)
    return (output[first.start() : first.start() + 3000] + "\n[...]\n" if first else "") + output[-1500:]


class Lab:
    """A lab and everything about it, in one working directory.

    Args:
        work: the directory.
        nodes: how many.
        root: the checkout that makes and converges it.
        name, network: what no other lab has.
    """

    def __init__(self, work: Path, nodes: int, *, root: Path = ROOT, name: str = NAME, network: int = NETWORK) -> None:
        self.work, self.nodes, self.root, self.name, self.network = work, nodes, root, name, network
        self.inventory = work / "inventory"
        self.growth = work / "growth"
        self.state = work / "state"
        self.hosts = [
            Host(f"gpu{n:02d}", f"10.{network}.10.{10 + n}", f"gpustead-{name}-gpu{n:02d}") for n in range(1, nodes + 1)
        ]

    # The hosts

    def up(self) -> None:
        settings = {
            "lab_name": self.name,
            "lab_nodes": self.nodes,
            "lab_ipv4_prefix": f"10.{self.network}",
            "lab_ipv6_prefix": f"fd00:{self.network}",
            "lab_inventory": str(self.inventory),
        }
        call("ansible-playbook", "-i", "localhost,", "playbooks/lab.yml", "-e", json.dumps(settings), cwd=self.root)
        (self.inventory / "group_vars/all/zz_bench.yml").write_text(yaml.safe_dump(dict(SETTINGS)))

    def converge(self, *arguments: str) -> None:
        call("ansible-playbook", "-i", str(self.inventory), "site.yml", *arguments, cwd=self.root)

    def down(self, keep_images: bool) -> None:
        settings = {"lab_name": self.name, "lab_inventory": str(self.inventory), "lab_keep_images": keep_images}
        call(
            "ansible-playbook", "-i", "localhost,", "playbooks/lab_down.yml", "-e", json.dumps(settings), cwd=self.root
        )

    def ssh_config(self, hosts: Sequence[Host]) -> str:
        common = (
            "Host *\n  User root\n  BatchMode yes\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
            f"  IdentityFile {self.inventory}/.ssh/id_ed25519\n  UserKnownHostsFile {self.inventory}/.ssh/known_hosts\n"
        )
        return "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in hosts) + common

    # What they are like

    def capture(self, hosts: Sequence[Host] = ()) -> None:
        """Read each host, or some, as its roles left it: the desired state of the pyinfra deploy."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._capture, hosts or self.hosts))

    def _capture(self, host: Host) -> None:
        folder = self.state / host.name
        script = (HERE / "floor.py").read_text()
        entries = json.loads(inside(host, ["python3", "-I", "-S", "-", "contents"], script))
        for entry in entries:
            if "error" in (entry["value"] or {}):
                raise Failed(f"{host.name}: {entry['kind']} {entry['subject']['name']}: {entry['value']['error']}")
            for path, value in files_of(entry):
                save(folder / "files" / path.lstrip("/"), value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps(entries))

    # Many names

    def grow(self, names: int) -> None:
        """An inventory with `names` nodes: each container has as many names, each with an address of its own."""
        hosts = self.named(names)
        for host in hosts[self.nodes :]:
            inside(host, ["ip", "address", "replace", f"{host.address}/24", "dev", "eth0"])
        self._know(hosts)
        self._write_growth(hosts)
        settings = "-e", json.dumps({"bench_container_state": "/var/lib/gpustead"})
        call("ansible-playbook", "-i", str(self.growth), "bench/vouch.yml", *settings)

    def named(self, count: int) -> list[Host]:
        """So many hosts; where there are not as many containers, their further names."""
        return [self._named(index) for index in range(count)]

    def _named(self, index: int) -> Host:
        again, n = divmod(index, self.nodes)
        first = self.hosts[n]
        if not again:
            return first
        # The lab's own addresses end with 99 at most.
        network = first.address.rpartition(".")[0]
        return Host(f"{first.name}-{again + 1}", f"{network}.{101 + index - self.nodes}", first.container)

    def _know(self, hosts: Sequence[Host]) -> None:
        """The same key of the container under each of its addresses."""
        file = self.inventory / ".ssh/known_hosts"
        keys = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        own = {host.container: keys[host.address] for host in self.hosts}
        keys.update({host.address: own[host.container] for host in hosts})
        file.write_text("".join(f"{address} {key}\n" for address, key in keys.items()))

    def _write_growth(self, hosts: Sequence[Host]) -> None:
        self.growth.mkdir(exist_ok=True)
        for name in (".ssh", ".secrets", ".images", "group_vars"):
            link = self.growth / name
            if not link.is_symlink():
                link.symlink_to(self.inventory / name)
        inventory = yaml.safe_load((self.inventory / "hosts.yml").read_text())
        # Each name has receipts of its own; they lie beside those of the container.
        inventory["gpu_nodes"]["hosts"] = {
            host.name: {"ansible_host": host.address, "cluster_state_dir": f"/var/lib/gpustead/bench/{host.name}"}
            for host in hosts
        }
        (self.growth / "hosts.yml").write_text(yaml.safe_dump(inventory))


def inside(host: Host, argv: Sequence[str], script: str = "") -> str:
    """Run something in a host without SSH: for what prepares, not for what is measured."""
    done = subprocess.run(
        ["docker", "exec", "-i", host.container, *argv], input=script, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"{host.name}: {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def files_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files in a value, and their contents taken out of it."""
    value, name = entry["value"], entry["subject"]["name"]
    if not value:
        return
    if "entries" in value:
        yield name, {"mode": value["mode"], "type": "directory"}
        yield from ((f"{name}/{path}", inner) for path, inner in value["entries"].items())
    elif entry["kind"] == "contains":
        yield from ((path, inner) for path, inner in value.items() if inner)
    elif "type" in value:
        yield name, value


def save(path: Path, value: dict[str, Any]) -> None:
    content = value.pop("content", None)
    if value["type"] == "directory":
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(int(value["mode"], 8) | 0o700)
    elif content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
        # files.sync takes the modes from here.
        path.chmod(int(value["mode"], 8) | 0o400)


@contextmanager
def far_away(host: Host, milliseconds: int) -> Iterator[None]:
    """Put a host behind a link that delays every packet, there and back, by half of this."""
    pid = call("docker", "inspect", "--format", "{{.State.Pid}}", host.container).strip()
    argv = [sys.executable, str(HERE / "link.py"), host.address, pid, str(milliseconds / 2)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as link:
        try:
            assert link.stdout is not None and link.stderr is not None
            if link.stdout.readline().strip() != "ready":
                raise Failed(f"no link with a delay could be made: {link.stderr.read().strip()}")
            yield
        finally:
            link.terminate()
