# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `docker buildx bake --progress plain` says: which layer is ready, which one works on what, which one failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

# A build of one target alone names no target.
STEP = re.compile(r"#\d+ \[(?:(?P<target>\S+) +)?(?:\S+ +)?\d+/\d+\] (?P<instruction>.+)")
NAMED = re.compile(r"#\d+ naming to (?P<ref>\S+)(?: [0-9.]+s)? done")
FAILED = re.compile(
    r"^ > \[(?:(?P<target>\S+) +)?(?:\S+ +)?(?:internal|\d+/\d+)\] (?P<instruction>.*?):?$", re.MULTILINE
)


@dataclass(frozen=True)
class Event:
    """What one line of the builder tells.

    Attributes:
        layer: name of a layer of the stack.
        ready: it is built and has its name.
        instruction: what is worked on; empty when it is ready.
    """

    layer: str
    ready: bool
    instruction: str = ""


def events(lines: Iterable[str], refs: Mapping[str, str], dockerfiles: Mapping[str, str]) -> Iterator[Event]:
    """The events in the output of a build, as its lines come.

    Args:
        lines: the output.
        refs: reference to name of the layer that is tagged with it.
        dockerfiles: name of each layer that is built to the text of its Dockerfile.
    """
    for line in lines:
        named = NAMED.match(line)
        step = STEP.match(line)
        if named and named["ref"] in refs:
            yield Event(refs[named["ref"]], ready=True)
        elif step and not step["instruction"].startswith("FROM "):
            yield Event(owner(step["target"], step["instruction"], dockerfiles), False, step["instruction"])


def owner(target: str | None, instruction: str, dockerfiles: Mapping[str, str]) -> str:
    """The layer that an instruction belongs to.

    The builder names the target that asked for a step first, which can be a child: the instruction tells whose it is.
    """
    start = " ".join(instruction.split()[:2])
    owners = [name for name, text in dockerfiles.items() if start in text]
    if owners:
        return target if target in owners else owners[0]
    return target or next(iter(dockerfiles), "")


def failed_step(output: str, dockerfiles: Mapping[str, str]) -> str:
    """The layer and the instruction at which the builder stopped; empty when the output names none."""
    step = FAILED.search(output)
    if not step:
        return ""
    instruction = step["instruction"]
    return f"layer {owner(step['target'], instruction, dockerfiles)!r} at {instruction[:80]!r}"


def last_words(text: str, lines: int = 15) -> str:
    """The end of what a tool said, on one line."""
    return " | ".join(line.strip()[:400] for line in text.strip().splitlines()[-lines:] if line.strip())


def elapsed(parents: Mapping[str, str], ready: Mapping[str, float], order: Sequence[str]) -> dict[str, float]:
    """Seconds that each layer took: from the moment its parent was ready (or the build began) to its own.

    Args:
        parents: name to the name of the layer below, empty for the base image.
        ready: name to seconds since the build began; the layers that were built.
        order: names of the layers, for the order of the answer.
    """
    return {name: round(ready[name] - ready.get(parents[name], 0.0), 1) for name in order if name in ready}
