# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forced run beside that of an earlier commit.

Each on nodes that its own roles have converged: an earlier commit refuses what a later one has made of a share. Both
labs are there at once, so that the runs of a round follow one another directly.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import counts
from contestants import Contestant, site
from lab import Lab, call, step
from report import Block

COMMIT = "e21611a"
NODES = 3  # at most, of either: one machine has room for twice as many


@dataclass
class Result:
    """Runs of both, which change nothing, and tasks of each run for each node."""

    block: Block
    tasks: dict[str, list[float]] = field(default_factory=dict)


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


def contestants(labs: dict[str, Lab], path: Path) -> Sequence[Contestant]:
    """A forced run on the first nodes of each lab."""
    found = []
    for name, lab in labs.items():
        forced = site(name, lab.hosts[:NODES], lab.inventory, "-e", "site_force=true")
        found.append(counts.counting(replace(forced, cwd=lab.root), path))
    return found


def measure(lab: Lab, rounds: int) -> Result:
    count = min(NODES, lab.nodes)
    step(f"a forced run on {count} nodes, and that of {COMMIT} on as many of its own, {rounds} rounds")
    own = Lab(lab.work / "before", count, root=check_out(lab.work), name="before", network=216)
    own.work.mkdir(exist_ok=True)
    path = lab.work / "counts.json"
    result = Result(Block(f"forced_{count}", "forced run", count))
    try:
        own.up()
        own.converge()
        own.converge("-e", "site_force=true")  # its first forced run may write the mesh's files once more
        both = contestants({"forced": lab, "before": own}, path)
        for number in range(rounds):
            for contestant in both[:: -1 if number % 2 else 1]:
                run = contestant.run()
                result.block.add(contestant.name, run)
                tasks = counts.executed(counts.read(path), [host.name for host in own.hosts])
                result.tasks.setdefault(contestant.name, []).append(tasks / count)
                print(f"    {contestant.name:15} {run.seconds:8.2f} s, {tasks / count:.1f} tasks a node", flush=True)
    finally:
        own.down(keep_images=True)
    return result


def figures(result: Result) -> dict[str, float]:
    return {
        "forced_vs_before": result.block.ratio("forced", "before"),
        "forced_tasks_per_node": median(result.tasks["forced"]),
        "before_tasks_per_node": median(result.tasks["before"]),
    }


HEAD = ("forced run", "seconds", "tasks for each node")


def table(result: Result) -> list[list[str]]:
    titles = {"forced": "now", "before": f"commit {COMMIT}"}
    return [
        [
            f"{title}, {result.block.hosts} nodes",
            f"{result.block.seconds(name):.1f}",
            f"{median(result.tasks[name]):.1f}",
        ]
        for name, title in titles.items()
    ]
