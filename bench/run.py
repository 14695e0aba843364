# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""make bench: what runs cost that have nothing to do or one change, beside pyinfra and the least that is possible.

Makes a lab, converges it, times everyone in turns, writes docs/benchmarks.md and bench/results.json, and takes all
away again. Any part can be measured alone (--only); the figures of the others stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import before
import changes
import fairness
import images
import join
import preflight
import pulls
import report
import survey
from contestants import Contestant, all_contestants, install_pyinfra
from lab import ROOT, Lab, far_away, step
from timing import Failed

# Takes minutes: its memory is looked at in the measured runs, every so many seconds.
LONG = {"forced": 0.5}
EVERYWHERE = ("no_change", "pyinfra", "pyinfra_nodelay", "floor")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every measurement")
    parser.add_argument("--nodes", type=int, default=10, help="containers of the lab")
    parser.add_argument(
        "--names", type=int, default=50, help="names of them for the growth, at most 150; 0 leaves it out"
    )
    parser.add_argument("--rtt", type=int, default=50, help="milliseconds to the far host and back; 0 leaves it out")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache/bench", help="where everything is made")
    parser.add_argument("--keep", action="store_true", help="leave the lab for another run, which uses it")
    parser.add_argument("--no-forced", action="store_true", help="leave out the forced runs, which take the most time")
    parser.add_argument("--survey", type=int, default=1000, help="names of the survey and of the preflight")
    parser.add_argument("--only", type=parts_of, default=list(PARTS), help=f"some of {', '.join(PARTS)}, with commas")
    return parser.parse_args(arguments)


def parts_of(text: str) -> list[str]:
    """The parts that are named, in the order in which all are measured."""
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.lab = Lab(options.work.resolve(), options.nodes)
        self.blocks: list[report.Block] = []
        self.kinds: list[str] = []
        self.results: dict[str, float] = {}
        self.outputs = 0

    @property
    def needs_lab(self) -> bool:
        return not ALONE.issuperset(self.options.only)

    def prepare(self) -> None:
        self.lab.work.mkdir(parents=True, exist_ok=True)
        if not self.needs_lab:
            return
        step(f"a lab of {self.options.nodes} nodes")
        self.lab.up()
        step("site.yml on it")
        self.lab.converge()
        step("pyinfra in an environment of its own")
        install_pyinfra(self.lab.work)
        step("the desired state for it, as the hosts have it")
        self.lab.capture()
        self.outputs = len(json.loads((self.lab.state / self.lab.hosts[-1].name / "state.json").read_text()))
        step("does pyinfra notice a change of each kind?")
        self.kinds = fairness.check(self.lab, self.lab.hosts[-1])
        print(f"    yes: {', '.join(self.kinds)}")

    def measure(self) -> None:
        """All parts, or those asked for; each is written as soon as it is measured."""
        for name in self.options.only:
            self.results = report.write([PARTS[name](self)])
            print("\n".join(report.verdicts(self.results)), flush=True)

    def no_change(self) -> report.Part:
        nodes, names, rtt = self.options.nodes, self.options.names, self.options.rtt
        for size in sorted({1, min(3, nodes), nodes}):
            forced = size == nodes and not self.options.no_forced
            self._block(str(size), plural(size, "host"), size, forced)
        if rtt:
            with far_away(self.lab.hosts[0], rtt):
                self._block(f"rtt{rtt}", f"1 host, {rtt} ms away", 1)
        if names > nodes:
            step(f"{names} names for the {nodes} nodes")
            self.lab.grow(names)
            self._block(str(names), f"{names} names of {plural(nodes, 'host')}", names)
        print(report.screen(self.blocks))
        page = {
            "rounds": str(self.options.rounds),
            "nodes": str(self.options.nodes),
            "names": str(self.options.names),
            "rtt": str(self.options.rtt),
            "outputs": str(self.outputs),
            "kinds": ", ".join(self.kinds),
            "pyinfra": pinned("pyinfra"),
            "machine": report.machine(),
            "times": report.times_table(self.blocks),
            "costs": report.costs_table(self.blocks),
        }
        return report.Part(report.figures(self.blocks, self.outputs), page)

    def images(self) -> report.Part:
        pairs = images.measure(self.lab, self.options.rounds)
        table = report.table(["seconds (median)", "ours", "docker", "ratio"], images.table(pairs))
        return report.Part({name: pair.ratio for name, pair in pairs.items()}, {"images": table})

    def pulls(self) -> report.Part:
        result = pulls.measure(self.lab, self.options.rounds)
        page = {"pulls": report.table(pulls.HEAD, pulls.table(result)), "pulled": f"{result.size / 1e6:.0f}"}
        return report.Part(pulls.figures(result), page)

    def change(self, name: str) -> report.Part:
        result = changes.measure(self.lab, name, self.options.rounds)
        return report.Part(changes.figures(result), {name: report.table(changes.HEAD, [changes.row(result)])})

    def before(self) -> report.Part:
        result = before.measure(self.lab, self.options.rounds)
        return report.Part(before.figures(result), {"before": report.table(before.HEAD, before.table(result))})

    def join(self) -> report.Part:
        result = join.measure(self.lab, self.options.rounds)
        return report.Part(join.figures(result), {"join": report.table(join.HEAD, join.table(result))})

    def survey(self) -> report.Part:
        result = survey.measure(self.lab.work, self.options.survey, self.options.rounds)
        return report.Part(survey.figures(result), {"survey": report.table(survey.HEAD, survey.table(result))})

    def preflight(self) -> report.Part:
        result = preflight.measure(self.lab.work / "preflight", self.options.survey, self.options.rounds)
        return report.Part(
            preflight.figures(result), {"preflight": report.table(preflight.HEAD, preflight.table(result))}
        )

    def _block(self, suffix: str, title: str, size: int, forced: bool = False) -> None:
        step(f"{title}, {self.options.rounds} rounds")
        many = size > self.options.nodes
        hosts = self.lab.named(size)
        everyone = all_contestants(self.lab, hosts, self.lab.growth if many else self.lab.inventory)
        contestants = [everyone[name] for name in (*EVERYWHERE, *(["forced"] if forced else []))]
        block = report.Block(suffix, title, size)
        for contestant in contestants:
            if contestant.name not in LONG:  # this warms the hosts' caches up, too
                block.peaks[contestant.name] = contestant.run(sample=0.05).peak_mib
        for number in range(self.options.rounds):
            for contestant in rotated(contestants, number):
                run = contestant.run(sample=LONG.get(contestant.name, 0))
                block.add(contestant.name, run)
                print(f"    {contestant.name:15} {run.seconds:8.2f} s, {run.cpu:7.2f} s of CPU", flush=True)
        for name in LONG.keys() & block.runs.keys():
            block.peaks[name] = max(run.peak_mib for run in block.runs[name])
        # In the order of the tables, whoever began.
        block.runs = {contestant.name: block.runs[contestant.name] for contestant in contestants}
        self.blocks.append(block)

    def clean(self, had_images: bool) -> None:
        if self.needs_lab:
            step("taking the lab away")
            self.lab.down(had_images)
        shutil.rmtree(self.lab.work, ignore_errors=True)


PARTS: Mapping[str, Callable[[Bench], report.Part]] = {
    "images": Bench.images,
    "pulls": Bench.pulls,
    **{name: partial(Bench.change, name=name) for name in changes.CHANGES},
    "join": Bench.join,
    "forced_vs_before": Bench.before,
    "survey": Bench.survey,
    "preflight": Bench.preflight,
    # Last: it gives the containers further names.
    "no_change": Bench.no_change,
}
# Need no lab.
ALONE = frozenset({"survey", "preflight"})


def rotated(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    """Everyone begins a round in turn."""
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def plural(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def pinned(name: str) -> str:
    lock = (ROOT / "bench/requirements.txt").read_text().splitlines()
    return next(line.split()[0].replace("==", " ") for line in lock if line.startswith(f"{name}=="))


def has_lab_images() -> bool:
    argv = ["docker", "images", "--quiet", "gpustead/lab-host"]
    return bool(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def main() -> int:
    bench = Bench(parse(sys.argv[1:]))
    # Also who is told to stop takes away what was made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    had_images, began = bench.needs_lab and has_lab_images(), time.monotonic()
    try:
        bench.prepare()
        bench.measure()
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if bench.options.keep:
            print(f"the lab stays: {bench.lab.work}")
        else:
            bench.clean(had_images)
    print(f"docs/benchmarks.md and bench/results.json are written ({(time.monotonic() - began) / 60:.0f} minutes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
