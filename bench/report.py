# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From runs to figures: medians and ratios, for the screen, for bench/results.json and for docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lab import HERE, ROOT, call
from timing import Run

RESULTS, PAGE = HERE / "results.json", ROOT / "docs/benchmarks.md"

# Figure, what it says, the goal and whether it is the least that is wanted (otherwise the most).
GOALS: Sequence[tuple[str, str, float, bool]] = (
    ("no_change_vs_pyinfra_10", "no-change run to pyinfra, 10 hosts", 0.25, False),
    ("no_change_vs_floor_10", "no-change run to the floor, 10 hosts", 2.2, False),
    ("no_change_vs_pyinfra_50", "no-change run to pyinfra, 50 names", 0.25, False),
    ("no_change_vs_floor_50", "no-change run to the floor, 50 names", 1.6, False),
    ("no_change_vs_pyinfra_rtt50", "no-change run to pyinfra, 1 host 50 ms away", 0.35, False),
    ("forced_vs_no_change_10", "forced to no-change run, 10 hosts", 10, True),
    ("controller_cpu_per_host", "the controller's CPU for each added host, seconds", 0.12, False),
    ("survey_cpu_per_host_1000", "the same beyond its ssh client, 1,000 names, seconds", 0.006, False),
    (
        "preflight_cpu_per_host_1000",
        "the controller's CPU for each host of the preflight, 1,000 names, seconds",
        0.015,
        False,
    ),
    ("add_user_tasks_per_host", "tasks for each host when an account is added", 12, False),
    ("add_user_vs_forced_10", "an account added to the forced run, 10 hosts", 0.08, False),
    ("add_user_vs_pyinfra_10", "an account added to pyinfra with the same change, 10 hosts", 1.5, False),
    ("forced_vs_before", "the forced run to that of commit e21611a", 0.55, False),
    ("forced_tasks_per_node", "tasks for each node in a forced run", 85, False),
    ("join_vs_script", "an empty host joins, to a shell script that does the same", 1.3, False),
    ("after_join_tasks_per_host", "tasks for each other host in the first full run after it", 0, False),
    ("images_no_change_vs_bake", "image_stack with nothing to build to `docker buildx bake`", 1.1, False),
    ("images_chain_vs_one_by_one", "a stack with two branches to its Dockerfiles one by one", 0.8, False),
    ("pulls_2_vs_1_explained", "two nodes that pull at once to one, over the same for unpacking", 2, False),
    ("pulls_3_vs_1_explained", "three nodes that pull at once to one, over the same for unpacking", 2, False),
    ("pull_bytes_vs_size", "bytes of layers that the registry sends to their size for each that asks it", 1.01, False),
    ("pull_bytes_no_change", "bytes of layers that it sends where nothing has changed", 0, False),
)
LABELS = {
    "no_change": "`site.yml`, nothing to do",
    "forced": "`site.yml -e site_force=true`, nothing to do",
    "pyinfra": "pyinfra, nothing to do",
    "pyinfra_nodelay": "pyinfra with TCP_NODELAY, nothing to do",
    "floor": "the floor: one `ssh host python3` each",
}
RIVALS = {"pyinfra": "pyinfra", "pyinfra_nodelay": "pyinfra with TCP_NODELAY", "floor": "the floor"}


@dataclass
class Block:
    """All runs over the same hosts. `suffix` names its figures: a number of hosts, or rtt50."""

    suffix: str
    title: str
    hosts: int
    runs: dict[str, list[Run]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    def add(self, contestant: str, run: Run) -> None:
        self.runs.setdefault(contestant, []).append(run)

    def seconds(self, contestant: str) -> float:
        return median(run.seconds for run in self.runs[contestant])

    def cpu(self, contestant: str) -> float:
        return median(run.cpu for run in self.runs[contestant])

    def ratio(self, contestant: str, other: str) -> float:
        """Median of the ratios within the rounds: what slows a whole round down does not count."""
        pairs = zip(self.runs[contestant], self.runs[other])  # the rarer of them ends the list
        return median(one.seconds / two.seconds for one, two in pairs)


def figures(blocks: Sequence[Block], outputs: int) -> dict[str, float]:
    found: dict[str, float] = {"outputs_per_host": outputs}
    for block in blocks:
        for contestant in block.runs:
            found[f"{contestant}_seconds_{block.suffix}"] = block.seconds(contestant)
            found[f"{contestant}_cpu_seconds_{block.suffix}"] = block.cpu(contestant)
        for contestant, peak in block.peaks.items():
            found[f"{contestant}_peak_mib_{block.suffix}"] = peak
        for other in RIVALS:
            found[f"no_change_vs_{other}_{block.suffix}"] = block.ratio("no_change", other)
        if "forced" in block.runs:
            found[f"forced_vs_no_change_{block.suffix}"] = block.ratio("forced", "no_change")
    found.update(growth(blocks))
    return {name: round(value, 4) for name, value in found.items()}


def growth(blocks: Sequence[Block]) -> dict[str, float]:
    """What one host more costs, between the two largest numbers of hosts."""
    near = [block for block in blocks if block.suffix.isdigit()]
    if len(near) < 2:
        return {}
    few, many = sorted(near, key=lambda block: block.hosts)[-2:]
    added = many.hosts - few.hosts
    found = {"controller_cpu_per_host": (many.cpu("no_change") - few.cpu("no_change")) / added}
    for name, contestant in (("", "no_change"), ("_pyinfra", "pyinfra"), ("_floor", "floor")):
        found[f"seconds_per_added_host{name}"] = (many.seconds(contestant) - few.seconds(contestant)) / added
    return found


def judged(results: Mapping[str, float]) -> Iterator[tuple[str, float, str, str]]:
    """Title, figure, goal and verdict of all goals that were measured."""
    for name, title, goal, at_least in GOALS:
        if name in results:
            met = results[name] >= goal if at_least else results[name] <= goal
            yield title, results[name], f"{'≥' if at_least else '≤'} {goal:g}", "met" if met else "missed"


def verdicts(results: Mapping[str, float]) -> list[str]:
    return [f"{title}: {value:.3g} (goal {goal}: {verdict})" for title, value, goal, verdict in judged(results)]


def screen(blocks: Sequence[Block]) -> str:
    lines = []
    for block in blocks:
        lines.append(block.title)
        for contestant, runs in block.runs.items():
            times = [run.seconds for run in runs]
            relative = block.ratio(contestant, "floor")
            lines.append(
                f"  {contestant:15} {median(times):8.2f} s ({min(times):.2f} to {max(times):.2f})"
                f"  {relative:7.2f} x floor  {block.cpu(contestant):7.2f} s of CPU"
            )
    return "\n".join(lines)


# The page


@dataclass(frozen=True)
class Part:
    """What one part of the benchmark has measured: figures, and its words and tables of the page."""

    figures: Mapping[str, float]
    page: Mapping[str, str]


def write(parts: Sequence[Part], results: Path = RESULTS, page: Path = PAGE) -> dict[str, float]:
    """Write figures and page; what was not measured this time stays as it was measured last. Returns all figures."""
    stored: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    tables = results.with_name("tables.json")
    words: dict[str, str] = json.loads(tables.read_text()) if tables.exists() else {}
    for part in parts:
        stored.update({name: round(value, 4) for name, value in part.figures.items()})
        words.update(part.page)
    results.write_text(json.dumps(stored, indent=2) + "\n")
    tables.write_text(json.dumps(words, indent=2) + "\n")
    page.parent.mkdir(exist_ok=True)
    page.write_text(rendered((HERE / "benchmarks.md.in").read_text(), {**words, "goals": goals_table(stored)}))
    return stored


def rendered(template: str, words: Mapping[str, str]) -> str:
    """The page, with `(not measured)` for what never was."""
    return re.sub(r"@(\w+)@", lambda match: words.get(match.group(1), "(not measured)"), template)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def goals_table(results: Mapping[str, float]) -> str:
    rows = [[title, f"{value:.3g}", goal, verdict] for title, value, goal, verdict in judged(results)]
    return table(["", "measured", "goal", ""], rows)


def times_table(blocks: Sequence[Block]) -> str:
    def cell(block: Block, contestant: str) -> str:
        if contestant not in block.runs:
            return ""
        times = [run.seconds for run in block.runs[contestant]]
        return f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})"

    rows = [[label, *(cell(block, name) for block in blocks)] for name, label in LABELS.items()]
    ratios = [
        [f"no-change run to {other}", *(f"{block.ratio('no_change', name):.2f}" for block in blocks)]
        for name, other in RIVALS.items()
    ]
    return table(["seconds: median (least to most)", *(block.title for block in blocks)], rows + ratios)


def costs_table(blocks: Sequence[Block]) -> str:
    rows = []
    for block in blocks:
        for contestant in block.runs:
            peak = f"{block.peaks[contestant]:.0f}" if contestant in block.peaks else ""
            rows.append([f"{LABELS[contestant]}, {block.title}", f"{block.cpu(contestant):.2f}", peak])
    return table(["on the controller", "CPU, seconds", "peak of memory, MiB"], rows)


def machine() -> str:
    """The machine in words that fit any: no names, no paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    core = call("ansible-playbook", "--version").split("]")[0].split("core ")[-1]
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0]
    engine = call("docker", "version", "--format", "{{.Server.Version}}").strip()
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB of memory, Linux "
        f"{'.'.join(platform.release().split('.')[:2])}; Python {platform.python_version()}, ansible-core {core}, "
        f"{ssh.replace('_', ' ')}, Docker {engine}"
    )
