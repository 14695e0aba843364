# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forced run beside that of an earlier commit, on the same converged hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import counts
from contestants import Contestant, nothing_failed, site
from lab import Lab, call, step
from report import Block
from timing import Failed

COMMIT = "e21611a"
SETTLED = 3  # runs at most, until a forced one changes nothing


@dataclass
class Result:
    """Runs of both, tasks of each run for each node, and tasks that changed something."""

    block: Block
    tasks: dict[str, list[float]] = field(default_factory=dict)
    changed: dict[str, list[int]] = field(default_factory=dict)


def check_out(work: Path) -> Path:
    """The files of that commit, in a directory of their own."""
    folder = work / f"before-{COMMIT}"
    if not (folder / "site.yml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = work / "before.tar"
        call("git", "archive", "--output", str(archive), COMMIT)
        subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
        archive.unlink()
    return folder


def contestants(lab: Lab, path: Path) -> Sequence[Contestant]:
    now = site("forced", lab.hosts, lab.inventory, "-e", "site_force=true")
    now = counts.counting(replace(now, check=nothing_failed), path)
    # With receipts of its own: it cannot know what a later one has left.
    argv = [*now.argv, "-e", "cluster_state_dir=/var/lib/gpustead/before"]
    return now, replace(now, name="before", cwd=check_out(lab.work), argv=argv)


def settle(contestant: Contestant, path: Path) -> None:
    """What one writes differently the other writes back: run it until there is nothing left of that."""
    for _ in range(SETTLED):
        contestant.run()
        if not counts.changed(counts.read(path)):
            return
    raise Failed(f"{contestant.name}: a forced run changes something each time")


def measure(lab: Lab, rounds: int) -> Result:
    step(f"a forced run, and that of {COMMIT}, {rounds} rounds")
    path = lab.work / "counts.json"
    both = contestants(lab, path)
    result = Result(Block(f"forced_{len(lab.hosts)}", "forced run", len(lab.hosts)))
    nodes = [host.name for host in lab.hosts]
    for number in range(rounds):
        for contestant in both[:: -1 if number % 2 else 1]:
            settle(contestant, path)
            run = contestant.run()
            found = counts.read(path)
            result.block.add(contestant.name, run)
            result.tasks.setdefault(contestant.name, []).append(counts.executed(found, nodes) / len(nodes))
            result.changed.setdefault(contestant.name, []).append(counts.changed(found))
            print(
                f"    {contestant.name:15} {run.seconds:8.2f} s, {result.tasks[contestant.name][-1]:.1f} tasks a node"
            )
    call("ansible-playbook", "-i", str(lab.inventory), "site.yml")
    return result


def figures(result: Result) -> dict[str, float]:
    return {
        "forced_vs_before": result.block.ratio("forced", "before"),
        "forced_tasks_per_node": median(result.tasks["forced"]),
        "before_tasks_per_node": median(result.tasks["before"]),
        "forced_changed": max(result.changed["forced"]),
        "before_changed": max(result.changed["before"]),
    }


HEAD = ("forced run", "seconds", "tasks for each node", "of them with a change, all nodes")


def table(result: Result) -> list[list[str]]:
    titles = {"forced": "now", "before": f"commit {COMMIT}"}
    return [
        [
            title,
            f"{result.block.seconds(name):.1f}",
            f"{median(result.tasks[name]):.1f}",
            str(max(result.changed[name])),
        ]
        for name, title in titles.items()
    ]
