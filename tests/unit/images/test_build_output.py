"""What the builder prints, as captured: which layer is ready, which step failed, and how that is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.images.build_output import (
    Event,
    elapsed,
    events,
    failed_step,
    last_words,
)
from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Progress, duration

FIXTURES = Path(__file__).parents[1] / "fixtures/buildx"
DOCKERFILES = {"a": "FROM scratch\nCOPY nothing /\n", "c": "FROM parent\nRUN echo hello && no\n"}


@pytest.mark.parametrize(
    ("capture", "expected"),
    [("copy_in_parent", "layer 'a' at 'COPY nothing /'"), ("run_in_child", "layer 'c' at 'RUN echo hello &&")],
)
def test_a_failed_build_names_layer_and_instruction(capture: str, expected: str) -> None:
    assert failed_step((FIXTURES / f"{capture}.txt").read_text(), DOCKERFILES).startswith(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (" > [2/3] RUN echo hello:", "layer 'c' at 'RUN echo hello'"),
        (" > [c stage-1 2/3] RUN echo hello:", "layer 'c' at 'RUN echo hello'"),
        (" > [2/3] RUN other:", "layer 'a' at 'RUN other'"),
        (" > [a internal] load metadata for docker.io/x:1:", "layer 'a' at 'load metadata for docker.io/x:1'"),
        (" > [internal] load metadata for docker.io/x:1:", "layer 'a' at 'load metadata for docker.io/x:1'"),
    ],
)
def test_a_build_of_one_target_names_no_target(line: str, expected: str) -> None:
    assert failed_step(f"------\n{line}\n------", DOCKERFILES) == expected


def test_output_without_a_step_names_none() -> None:
    assert failed_step("no space left on device", DOCKERFILES) == ""
    assert last_words("a\n\n b \nc\n", 2) == "b | c"


def test_events_are_steps_and_layers_that_are_ready() -> None:
    lines = [
        "#5 [c internal] load build context",
        "#7 [c 1/2] FROM docker.io/library/debian:12",
        "#8 [c 1/1] COPY nothing /",
        "#8 DONE 0.1s",
        "#9 naming to 10.1.0.5:5000/g/debian12_a:0123 done",
        "#10 [c 2/2] RUN echo hello && no",
        "#11 naming to 10.1.0.5:5000/g/debian12_a_c:4567 0.0s done",
        "#12 naming to somewhere/else:1 done",
        "#13 [1/2] COPY nothing /",
        "#14 [c build 2/2] RUN echo hello && no",
    ]
    refs = {"10.1.0.5:5000/g/debian12_a:0123": "a", "10.1.0.5:5000/g/debian12_a_c:4567": "c"}
    assert list(events(lines, refs, DOCKERFILES)) == [
        Event("a", False, "COPY nothing /"),
        Event("a", True),
        Event("c", False, "RUN echo hello && no"),
        Event("c", True),
        Event("a", False, "COPY nothing /"),
        Event("c", False, "RUN echo hello && no"),
    ]


def test_a_layer_takes_the_time_since_its_parent_was_ready() -> None:
    parents = {"a": "", "b": "a", "c": "a", "d": ""}
    assert elapsed(parents, {"b": 7.04, "a": 5.0, "c": 65.5}, ["a", "b", "c", "d"]) == {"a": 5.0, "b": 2.0, "c": 60.5}


def test_what_is_reached_is_told_and_silence_is_broken() -> None:
    progress = Progress("gpu01", quiet=30)
    assert progress.lines([], now=90) == []
    at = {"layer": "a", "state": "at", "instruction": "RUN apt-get update", "after": 1.0}
    assert progress.lines([at], now=100) == []
    assert progress.lines([], now=131) == ["gpu01: layer a at RUN apt-get update"]
    assert progress.lines([], now=140) == []
    built = {"layer": "a", "state": "built", "instruction": "", "after": 62.1}
    assert progress.lines([built, {"layer": "a", "state": "pushed"}], now=141) == [
        "gpu01: layer a built after 1 min 02 s",
        "gpu01: layer a pushed",
    ]
    assert progress.lines([], now=500) == []
    assert not progress.ended
    assert progress.lines([{"state": "ended"}], now=501) == []
    assert progress.ended


def test_durations_are_read_by_people() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 125)] == ["0 s", "1 min 00 s", "2 min 05 s"]
