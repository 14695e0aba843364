# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contestants: for given hosts the command that is timed, and whether it did what it should."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab import BIN, HERE, ROOT, Host, Lab, call, environment
from timing import Failed, Run, run_cold

MOST_PROCESSES = 50


@dataclass(frozen=True)
class Contestant:
    """A command, and a check of what it printed, which raises Failed."""

    name: str
    argv: Sequence[str]
    cwd: Path
    check: Callable[[str], None]
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self, sample: float = 0) -> Run:
        return run_cold(self.argv, cwd=self.cwd, env={**environment(), **self.env}, sample=sample)

    def run(self, sample: float = 0) -> Run:
        run = self.start(sample)
        self.check(run.output)
        return run


def all_contestants(lab: Lab, hosts: Sequence[Host], inventory: Path) -> dict[str, Contestant]:
    """Everyone for the same hosts. `inventory` is Ansible's; the others get the same names and addresses."""
    rival = pyinfra(lab, hosts)
    everyone = (
        site("no_change", hosts, inventory),
        site("forced", hosts, inventory, "-e", "site_force=true"),
        rival,
        replace(rival, name="pyinfra_nodelay", env={**rival.env, "BENCH_NODELAY": "1"}),
        floor(lab, hosts),
    )
    return {contestant.name: contestant for contestant in everyone}


# site.yml


def site(name: str, hosts: Sequence[Host], inventory: Path, *more: str) -> Contestant:
    limit = ",".join(host.name for host in hosts)
    argv = [str(BIN / "ansible-playbook"), "-i", str(inventory), "site.yml", "--limit", limit, *more]
    return Contestant(name, argv, ROOT, nothing_changed if more else nothing_to_do(len(hosts)))


def nothing_changed(output: str) -> None:
    counts = re.findall(r"^\S+ +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", output, re.MULTILINE)
    if not counts or any(int(number) for _, *numbers in counts for number in numbers):
        raise Failed(f"site.yml on converged hosts was to change nothing:\n{output[-4000:]}")


def something_changed(output: str) -> None:
    counts = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", output, re.MULTILINE)
    changed, *wrong = (sum(map(int, column)) for column in zip(*counts)) if counts else (0, 0, 0)
    if not changed or any(wrong):
        raise Failed(f"site.yml was to carry out a change, and nothing was to fail:\n{output[-4000:]}")


def nothing_to_do(hosts: int) -> Callable[[str], None]:
    """Checks that all hosts were asked at once, and have nothing stale."""

    def check(output: str) -> None:
        nothing_changed(output)
        if f"{hosts} of {hosts} hosts are as their roles left them" not in output:
            raise Failed(f"site.yml on {hosts} converged hosts found something stale:\n{output[-4000:]}")

    return check


# pyinfra


def install_pyinfra(work: Path) -> Path:
    """pyinfra in an environment of its own, as it is pinned."""
    folder, lock = work / "venv", HERE / "requirements.txt"
    stamp = folder / hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists():
        call(sys.executable, "-m", "venv", "--clear", str(folder))
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        call(*pip, "--require-hashes", "-r", str(lock))
        stamp.touch()
    return folder


def pyinfra(lab: Lab, hosts: Sequence[Host], *options: str) -> Contestant:
    """Told not to ask, and to let no host wait for another: its quickest way (see docs/benchmarks.md)."""
    targets = lab.work / f"pyinfra-{len(hosts)}.json"
    states = {host.container: str(lab.state / host.name) for host in lab.hosts}
    described = {
        "key": str(lab.inventory / ".ssh/id_ed25519"),
        "known_hosts": str(lab.inventory / ".ssh/known_hosts"),
        "hosts": [{"name": host.name, "address": host.address, "state": states[host.container]} for host in hosts],
    }
    targets.write_text(json.dumps(described))
    argv = [str(lab.work / "venv/bin/pyinfra"), *(options or ["-y", "--no-wait"]), "--parallel", str(len(hosts))]
    argv += ["inventory.py", "deploy.py"]
    return Contestant("pyinfra", argv, HERE / "with_pyinfra", no_operation_changed, {"BENCH_TARGETS": str(targets)})


def sums(output: str) -> tuple[str, str]:
    """Operations that changed something and those that failed, over all hosts; a dash is none."""
    # Its table of results ends with the sums: operations, with success, in error, without a change.
    total = re.search(r"^ *Grand total((?: +[-\d]+){4}) *$", output, re.MULTILINE)
    if not total:
        raise Failed(f"pyinfra printed no results:\n{output[-4000:]}")
    _, success, error, _ = total.group(1).split()
    return success, error


def operations_changed(output: str) -> None:
    success, error = sums(output)
    if success == "-" or error != "-":
        raise Failed(f"pyinfra was to carry out a change:\n{output[-6000:]}")


def no_operation_changed(output: str) -> None:
    success, error = sums(output)
    if (success, error) != ("-", "-"):
        raise Failed(f"pyinfra on converged hosts was to change nothing:\n{output[-6000:]}")


def detected(output: str) -> set[str]:
    """The operations that would change something, as a dry run lists them."""
    rows = (re.split(r" {2,}", line.strip()) for line in output.splitlines())
    return {row[0] for row in rows if len(row) == 3 and any(cell[0].isdigit() for cell in row[1:])}


# The floor


def floor(lab: Lab, hosts: Sequence[Host]) -> Contestant:
    """One ssh for each host, all at once."""
    folder = lab.work / f"floor-{len(hosts)}"
    folder.mkdir(exist_ok=True)
    (folder / "ssh_config").write_text(lab.ssh_config(hosts))
    (folder / "hosts").write_text("".join(f"{host.name}\n" for host in hosts))
    one = f"ssh -F ssh_config {{}} exec python3 -I -S - <{HERE / 'floor.py'} >{{}}.json"
    argv = ["xargs", "-a", "hosts", "-P", str(min(len(hosts), MOST_PROCESSES)), "-I{}", "sh", "-c", one]

    def check(_: str) -> None:
        for host in hosts:
            answer = json.loads((folder / f"{host.name}.json").read_text())
            wrong = [name for name, value in answer.items() if value and "error" in value]
            if not answer or wrong:
                raise Failed(f"{host.name}: the floor could not read {', '.join(wrong) or 'any receipt'}")

    return Contestant("floor", argv, folder, check)
