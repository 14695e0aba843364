# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""People read it in their terminals, and nothing else is written to."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import terminals
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.terminals import tell


@contextmanager
def person() -> Iterator[tuple[int, list[int]]]:
    """A terminal, with two processes that have it for their input."""
    master, slave = pty.openpty()
    children = [subprocess.Popen(["sleep", "60"], stdin=slave) for _turn in range(2)]
    os.close(slave)
    try:
        yield master, [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
        os.close(master)


def read(master: int, seconds: float = 10) -> bytes:
    ready = select.select([master], [], [], seconds)[0]
    return os.read(master, 4096).replace(b"\r\r\n", b"\r\n") if ready else b""  # the terminal adds one, too


def test_each_terminal_has_it_once() -> None:
    with person() as (one, ones), person() as (other, others):
        assert tell("gpu02 is drained\x1b[2J", pids=[*ones, *others]) == 2
        for master in (one, other):
            assert read(master) == b"\r\n[gpustead] gpu02 is drained\\x1b[2J\r\n"
            assert read(master, 0.2) == b""


@pytest.mark.parametrize("kind", ["pipe", "file", "nothing"])
def test_what_is_no_terminal_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    with ExitStack() as stack:
        file = stack.enter_context(open(tmp_path / "file"))
        given: int = {"pipe": subprocess.PIPE, "file": file.fileno(), "nothing": subprocess.DEVNULL}[kind]
        child = subprocess.Popen(["sleep", "60"], stdin=given)
        stack.callback(child.wait)
        stack.callback(child.kill)
        assert tell("words", pids=[child.pid]) == 0
    assert (tmp_path / "file").read_text() == ""
    assert tell("words", pids=[child.pid]) == 0  # it has ended


def test_a_name_alone_makes_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a place of an account's own something else may have it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "7/fd").mkdir(parents=True)
    (tmp_path / "7/fd/0").symlink_to(tmp_path / "file")
    monkeypatch.setattr(terminals, "_NAME", re.compile(".*"))
    assert terminals.tell("words", pids=[7], proc=tmp_path) == 0
    assert (tmp_path / "file").read_text() == ""


def fill(descriptor: int) -> bool:
    """Whether there was room."""
    written = 0
    for size in (1024, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                written += os.write(descriptor, b"x" * size)
    return written > 0


def test_a_terminal_that_takes_nothing_keeps_nobody_waiting() -> None:
    with person() as (full, ones), person() as (other, others):
        descriptor = os.open(f"/proc/{ones[0]}/fd/0", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        while fill(descriptor):
            time.sleep(0.5)  # the kernel makes room once more when it comes to that
        os.close(descriptor)
        assert tell("words", timeout=20, pids=[*ones, *others]) == 1
        assert b"words" in read(other)
        assert b"words" not in read(full)
