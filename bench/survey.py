# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's CPU for each host of a run without changes, beyond its ssh client: many names, and no host.

In place of ssh stands a program that takes what it is sent and answers as a converged host does. What it takes itself
is measured apart and taken off, and so is what a run over few names takes.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from contestants import Contestant, nothing_to_do, site
from lab import ROOT, Host, environment, step
from timing import run_cold

FEW = 10
MARK = "gpustead-receipts:"
STUB = "#!/bin/sh\ncat >{sent}\nexec cat {answer}\n"


@dataclass
class Result:
    """CPU seconds round by round: of the runs over few and over all names, and of as many stubs by themselves."""

    names: int
    few: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    stubs: list[float] = field(default_factory=list)

    @property
    def per_host(self) -> float:
        """Seconds for each name, start-up and the stub in ssh's place taken off."""
        added = self.names - FEW
        return median(
            (more - fewer - stubs * added / self.names) / added
            for more, fewer, stubs in zip(self.all, self.few, self.stubs)
        )


def named(count: int) -> list[Host]:
    """Names with addresses that are reserved for benchmarks (RFC 2544): nothing is sent there."""
    return [Host(f"gpu{n:04d}", f"198.18.{n // 200}.{n % 200 + 1}", "") for n in range(1, count + 1)]


def inventory(hosts: Sequence[Host]) -> dict[str, Any]:
    """What a site of so many nodes declares."""
    server = {"nas": {"ansible_host": "198.19.0.1"}}
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8jMSaqJdbGp9vEcZtbZ7KvuZx1pjWlKXYOBLTVZ3Uw bench"
    variables = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "cluster_name": "bench",
        "cluster_network": ["198.18.0.0/15"],
        "cluster_ca_passphrase": "not used by a run without changes",
        "cluster_users": [{"name": "ada", "uid": 1500, "groups": ["ml"], "ssh_keys": [key]}],
        "nas_source": "198.19.0.1:/nas",
        "nas_fstype": "glusterfs",
        "docker_source": "distribution",
    }
    return {
        "gpu_nodes": {"hosts": {host.name: {"ansible_host": host.address} for host in hosts}},
        "nas_server": {"hosts": server},
        "registry": {"hosts": {"nas": None}},
        "all": {"vars": variables},
    }


def answer() -> str:
    """What a converged host says of its receipts, of whichever roles it is asked."""
    fresh: Mapping[str, list[str]] = {"reasons": [], "drifted": []}
    roles = sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/receipt.yml"))
    return f"{MARK}{json.dumps({'roles': dict.fromkeys(roles, fresh), 'left': [], 'refused': []})}\n"


def prepare(folder: Path, hosts: Sequence[Host], sent: str = "/dev/null") -> Path:
    """Write inventory, answer and stub, and return the inventory. `sent` is where the stub puts what it is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory(hosts)))
    (folder / "answer").write_text(answer())
    stub = folder / "ssh"
    stub.write_text(STUB.format(sent=sent, answer=folder / "answer"))
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return folder / "hosts.yml"


def over(hosts: Sequence[Host], hosts_file: Path) -> Contestant:
    """site.yml with nothing to do over these names."""
    contestant = site("no_change", hosts, hosts_file)
    return replace(
        contestant,
        check=nothing_to_do(len(hosts)),
        env={"ANSIBLE_SSH_EXECUTABLE": str(hosts_file.parent / "ssh"), "ANSIBLE_SSH_ARGS": "-o BatchMode=yes"},
    )


def stubs(folder: Path, count: int) -> float:
    """CPU seconds of so many stubs, each sent what a host is sent."""
    argv = ["xargs", "-P", "2", "-I{}", "sh", "-c", "exec ./ssh <sent"]
    (folder / "numbers").write_text("".join(f"{n}\n" for n in range(count)))
    return run_cold([*argv[:1], "-a", "numbers", *argv[1:]], cwd=folder, env=environment()).cpu


def measure(work: Path, names: int, rounds: int) -> Result:
    step(f"{names} names with a stub in place of ssh, {rounds} rounds")
    folder, hosts = work / "survey", named(names)
    # What a host is sent, for the stubs by themselves.
    over(hosts[:1], prepare(folder, hosts, sent=str(folder / "sent"))).run()
    hosts_file = prepare(folder, hosts)
    result = Result(names)
    for _ in range(rounds):
        result.few.append(over(hosts[:FEW], hosts_file).run().cpu)
        result.all.append(over(hosts, hosts_file).run().cpu)
        result.stubs.append(stubs(folder, names))
        spent = f"over {FEW} names {result.few[-1]:.2f} s, the stubs {result.stubs[-1]:.2f} s"
        print(f"    {result.all[-1]:.2f} s of CPU, {spent}", flush=True)
    return result


def figures(result: Result) -> dict[str, float]:
    return {f"survey_cpu_per_host_{result.names}": result.per_host}


HEAD = ("CPU of the controller, seconds", "median")


def table(result: Result) -> list[list[str]]:
    return [
        [f"`site.yml` with nothing to do over {result.names} names", f"{median(result.all):.2f}"],
        [f"over {FEW} of them", f"{median(result.few):.2f}"],
        [f"{result.names} stubs by themselves", f"{median(result.stubs):.2f}"],
        ["for each name beyond its ssh client", f"{result.per_host:.4f}"],
    ]
