# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What real processes have open, those of accounts that make it hard to look through."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import processes

FOREVER = processes.Patience(3600)
HOLD = """
import ctypes, os, sys, threading
libc, stop = ctypes.CDLL(None, use_errno=True), threading.Event()
files = [os.open("/dev/zero", os.O_RDONLY) for _ in range({files})]

def alone():
    assert libc.unshare(0x400 | 0x200) == 0  # its own files, its own directory
    os.open("/dev/full", os.O_RDONLY)
    os.chdir("/usr")
    ready.wait()
    stop.wait()

ready = threading.Barrier({alone} + 1)
for work in [alone] * {alone} + [stop.wait] * {threads}:
    threading.Thread(target=work, daemon=True).start()
ready.wait()
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def process(files: int = 0, threads: int = 0, alone: int = 0) -> Iterator[int]:
    """One with so many files open, and threads that show them as well, or have their own."""
    command = [sys.executable, "-c", HOLD.format(files=files, threads=threads, alone=alone)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin and started.stdout
        started.stdout.readline()
        yield started.pid
        started.stdin.close()


def targets(links: Iterator[str]) -> list[str]:
    return [os.readlink(link) for link in links]


def test_threads_that_share_all_are_looked_at_once() -> None:
    with process(files=20, threads=30) as pid:
        assert targets(processes.held(pid, FOREVER)).count("/dev/zero") == 20
        assert targets(processes.files(pid, FOREVER)).count("/dev/zero") == 20


def test_what_a_thread_alone_has_is_seen() -> None:
    with process(threads=3, alone=2) as pid:
        found = targets(processes.held(pid, FOREVER))
        files = targets(processes.files(pid, FOREVER))
    assert found.count("/dev/full") == files.count("/dev/full") == 2
    assert found.count("/usr") == 2


def test_a_thread_that_has_ended_hides_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with process(alone=1) as pid:
        tasks = ["1", *os.listdir(f"/proc/{pid}/task")]
        monkeypatch.setattr(os, "listdir", lambda _path: tasks)
        links = [link for link in processes.held(pid, FOREVER) if "/task/1/" not in link]
        assert "/dev/full" in targets(iter(links))


def test_who_has_too_many_files_open_is_named() -> None:
    patience, words = processes.Patience(1), "process {}, with [2-6][0-9][0-9] or more, has too many files open"
    with process(files=600) as pid, pytest.raises(processes.OutOfTime, match=words.format(pid)):
        while True:
            list(processes.files(pid, patience))
            list(processes.files(os.getpid(), patience))


def test_the_ids_of_a_process() -> None:
    assert processes.uids(os.getpid()) == [os.getuid()] * 4
    assert os.getpid() in processes.numbers()
