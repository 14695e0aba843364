# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs on a node that somebody would miss, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import User
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes import node_work
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.node_work import end, observe

RUN = {"id": "20261130-1", "account": "ada", "nodes": ["gpu01 (2)", "gpu02 (2)"], "command": ["train.py", "-x"]}
END = {"end": True}


def said(*lines: Any) -> str:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)


def answering(code: int, out: str = "", err: str = "") -> Any:
    return lambda _argv: (code, out, err)


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ((0, said(END)), []),
        ((0, said(RUN, END)), ["run 20261130-1 of ada on gpu01 (2), gpu02 (2): train.py -x"]),
        ((0, said("a word", "[1]", "[" * 100000, {"id": "x"}, END)), []),
        (
            (0, said({**RUN, "id": "a\x1b[2J", "nodes": ["b"], "command": ["c" * 200]}, END)),
            ["run a\\x1b[2J of ada on b"],
        ),
        ((0, said({"account": "bob", "error": "no answer"}, END)), ["bob: no answer"]),
        ((1, "", "Error response from daemon: No such container: gpustead-mesh"), []),
        ((1, "", "container 1a is not running"), []),
        ((127, "", "No such file or directory: docker"), []),  # a node that never was set up
    ],
)
def test_what_runs(answer: tuple[int, str] | tuple[int, str, str], lines: list[str]) -> None:
    found = observe(answering(*answer), list).lines()
    assert [line[: len(start)] for line, start in zip(found, lines)] == lines and len(found) == len(lines)
    assert all(line.isprintable() for line in found)


@pytest.mark.parametrize(
    ("answer", "message"),
    [((0, said(RUN)), "it is of an earlier release"), ((0, ""), "site.yml"), ((124, "", "no answer"), "no answer")],
)
def test_a_mesh_that_does_not_say_is_not_taken_for_idle(answer: Any, message: str) -> None:
    with pytest.raises(GpusteadError, match=message):
        observe(answering(*answer), list)


def test_services_of_the_host_are_not_missed(tmp_path: Path) -> None:
    """Root's, in the namespaces that the host has."""
    for pid, mounts in {"self": "mnt:[1]", "11": "mnt:[1]", "12": "mnt:[2]"}.items():
        (tmp_path / pid / "ns").mkdir(parents=True)
        for kind, value in {"mnt": mounts, "user": "user:[1]"}.items():
            (tmp_path / pid / "ns" / kind).symlink_to(value)
    users = [User(11, "root", "nv-hostengine"), User(12, "root", "python"), User(13, "ada", "python")]
    found = observe(answering(0, said(END)), lambda: users, tmp_path)
    assert found.lines() == ["process 12 root python uses a GPU", "process 13 ada python uses a GPU"]


def test_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_work, "_GRACE", 0.5)
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, said(RUN, END), ""

    deaf = "trap '' TERM; echo; while :; do sleep 0.1; done"
    children = [
        subprocess.Popen(["sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE),
        subprocess.Popen(["sh", "-c", deaf], stdout=subprocess.PIPE),
        subprocess.Popen(["sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE),
    ]
    for child in children:
        assert child.stdout
        child.stdout.readline()
    own, another = [User(child.pid, "ada", "sleep") for child in children[:2]], User(children[2].pid, "ada", "sleep")
    looks = iter([[*own, another], own])  # the third one's number is another's by then
    end(run, lambda: next(looks))
    assert [child.wait(5) for child in children[:2]] == [-signal.SIGTERM, -signal.SIGKILL]
    assert children[2].poll() is None
    children[2].kill()
    children[2].wait()
    assert [argv[-2:] for argv in asked] == [["ps-here", "--of-all"], ["stop-here", "--of-all"]]


def test_what_has_ended_meanwhile_is_no_error() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    began = time.monotonic()
    users = [User(child.pid, "ada", "true")]
    end(answering(0, said(END)), lambda: users)
    assert time.monotonic() - began < 5
    assert os.listdir("/proc/self/fd")
