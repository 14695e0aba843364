# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's CPU for each host of the preflight: inventories with few and with many nodes, and no host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from contestants import Contestant
from lab import BIN, ROOT, Host, step
from survey import FEW, named, prepare
from timing import Failed


@dataclass
class Result:
    """CPU seconds round by round, over few and over all names."""

    names: int
    few: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)

    @property
    def per_host(self) -> float:
        """Seconds for each name, start-up taken off."""
        return median((more - fewer) / (self.names - FEW) for more, fewer in zip(self.all, self.few))


def sound(output: str) -> None:
    if "failed=0" not in output or "unreachable=0" not in output:
        raise Failed(f"the preflight found something in the inventory of the benchmark:\n{output[-2000:]}")


def over(hosts: Sequence[Host], folder: Path) -> Contestant:
    """playbooks/preflight.yml over an inventory of these hosts alone."""
    argv = [str(BIN / "ansible-playbook"), "-i", str(prepare(folder, hosts)), "playbooks/preflight.yml"]
    return Contestant("preflight", argv, ROOT, sound)


def measure(work: Path, names: int, rounds: int) -> Result:
    step(f"the preflight of {names} names, {rounds} rounds")
    hosts, result = named(names), Result(names)
    few, everyone = over(hosts[:FEW], work / "few"), over(hosts, work / "all")
    for _ in range(rounds):
        result.few.append(few.run().cpu)
        result.all.append(everyone.run().cpu)
        print(f"    {result.all[-1]:.2f} s of CPU, over {FEW} names {result.few[-1]:.2f} s", flush=True)
    return result


def figures(result: Result) -> dict[str, float]:
    return {f"preflight_cpu_per_host_{result.names}": result.per_host}


HEAD = ("CPU of the controller, seconds", "median")


def table(result: Result) -> list[list[str]]:
    return [
        [f"the preflight of {result.names} names", f"{median(result.all):.2f}"],
        [f"of {FEW} of them", f"{median(result.few):.2f}"],
        ["for each name", f"{result.per_host:.4f}"],
    ]
