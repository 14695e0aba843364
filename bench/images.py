# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module image_stack costs beside docker itself: with nothing to build, and on a stack with two branches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lab import Lab, call, inside, step

FOLDER = "/var/lib/gpustead/bench-images"
# Two branches on one ground, each of which waits for the network and then has the processor unpack and configure.
DOCKERFILES: Mapping[str, str] = {
    "ground": "ARG base\nFROM ${base}\nRUN apt-get update\n",
    "left": "FROM parent\nRUN apt-get install -y --no-install-recommends ffmpeg\n",
    "right": "FROM parent\nRUN apt-get install -y --no-install-recommends cargo cmake git\n",
}
PARENTS: Mapping[str, str] = {"ground": "", "left": "ground", "right": "ground"}


@dataclass
class Pair:
    """Seconds of both contestants, round by round."""

    title: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(one / two for one, two in zip(self.ours, self.theirs))


def paired(title: str, rounds: int, *, ours: Callable[[], float], theirs: Callable[[], float]) -> Pair:
    """Both in every round, each first in its turn."""
    pair = Pair(title)
    for number in range(rounds):
        if number % 2:
            pair.ours.append(ours())
        pair.theirs.append(theirs())
        if not number % 2:
            pair.ours.append(ours())
    return pair


class Images:
    """The stack on one host of a converged lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.host = lab, lab.hosts[0]
        text = call("ansible-inventory", "-i", str(lab.inventory), "--host", self.host.name)
        self.base: str = json.loads(text[text.index("{") :])["images_base"]

    def __enter__(self) -> Images:
        for name, text in DOCKERFILES.items():
            self._save(f"{name}/Dockerfile", text)
        targets = {name: self._target(name) for name in DOCKERFILES}
        self._save("bake.json", json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}))
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        inside(self.host, ["rm", "-rf", FOLDER])

    def no_change(self, rounds: int) -> Pair:
        """Nothing to build; of ours Ansible's own start-up, that of its module ping, is taken off."""
        self._ours()
        self._bake()
        return paired(
            "image_stack with nothing to build, and `docker buildx bake` with all in its cache", rounds,
            ours=lambda: self._timed(self._ours) - self._timed(self._ping), theirs=lambda: self._timed(self._bake),
        )  # fmt: skip

    def chain(self, rounds: int) -> Pair:
        """The whole stack from its base, ours against the same Dockerfiles built one by one; start-up as above."""
        return paired(
            "a stack with two branches, built by image_stack, and the same Dockerfiles one by one", rounds,
            ours=lambda: self._from_nothing(self._ours) - self._timed(self._ping),
            theirs=lambda: self._from_nothing(self._one_by_one),
        )  # fmt: skip

    def _target(self, name: str) -> dict[str, Any]:
        parent = PARENTS[name]
        return {
            "context": f"{FOLDER}/{name}",
            "contexts": {"parent": f"target:{parent}"} if parent else {},
            "args": {} if parent else {"base": self.base},
            "tags": [f"by-hand/{name}:1"],
        }

    def _ours(self) -> str:
        layers = [{"name": name, "context": f"{FOLDER}/{name}", "parent": PARENTS[name]} for name in DOCKERFILES]
        args = {"base": self.base, "repository": "by-us", "layers": layers, "push": False}
        return self._ansible("gpustead.cluster.image_stack", args)

    def _ping(self) -> str:
        return self._ansible("ansible.builtin.ping", {})

    def _ansible(self, module: str, args: Mapping[str, Any]) -> str:
        more = ["-a", json.dumps(args)] if args else []
        return call("ansible", self.host.name, "-i", str(self.lab.inventory), "-m", module, *more)

    def _bake(self) -> str:
        return inside(self.host, ["docker", "buildx", "bake", "--provenance=false", "--file", f"{FOLDER}/bake.json"])

    def _one_by_one(self) -> str:
        for name, parent in PARENTS.items():
            more = ["--build-context", f"parent=docker-image://by-hand/{parent}:1"] if parent else []
            argv = ["docker", "buildx", "build", "--provenance=false", "--tag", f"by-hand/{name}:1", *more]
            inside(self.host, [*argv, "--build-arg", f"base={self.base}", f"{FOLDER}/{name}"])
        return ""

    def _from_nothing(self, build: Callable[[], str]) -> float:
        self._forget()
        return self._timed(build)

    def _forget(self) -> None:
        """Remove the images of both and the builder's cache."""
        script = (
            "docker image ls --format '{{.Repository}}:{{.Tag}}' | grep -E '^by-(us|hand)/' "
            "| xargs -r docker image rm\n"
            "docker builder prune --all --force\n"
        )
        inside(self.host, ["sh", "-c", script])

    @staticmethod
    def _timed(action: Callable[[], str]) -> float:
        began = time.monotonic()
        action()
        return time.monotonic() - began

    def _save(self, name: str, text: str) -> None:
        inside(self.host, ["sh", "-c", f"mkdir -p $(dirname {FOLDER}/{name}) && cat > {FOLDER}/{name}"], text)


def measure(lab: Lab, rounds: int) -> dict[str, Pair]:
    """Figure to the runs that it is the ratio of."""
    with Images(lab) as images:
        step(f"images: nothing to build, {rounds} rounds")
        found = {"images_no_change_vs_bake": images.no_change(rounds)}
        step(f"images: two branches from nothing, {rounds} rounds")
        found["images_chain_vs_one_by_one"] = images.chain(rounds)
    for pair in found.values():
        print(f"    {pair.title}: {pair.ratio:.2f} ({spread(pair.ours)} to {spread(pair.theirs)} s)", flush=True)
    return found


def spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f}"


def table(pairs: Mapping[str, Pair]) -> list[list[str]]:
    """Rows: what, our median, theirs, in seconds, and the ratio."""
    return [[pair.title, spread(pair.ours), spread(pair.theirs), f"{pair.ratio:.2f}"] for pair in pairs.values()]
