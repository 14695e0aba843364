"""The shell of module image_stack: one build at a time, lines as they come, the file of progress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.files.progress_file import reporter
from ansible_collections.gpustead.cluster.plugins.modules import image_stack

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(0.6)
"""


@pytest.mark.parametrize(("check", "waits"), [(False, True), (True, False)])
def test_a_build_waits_for_another_and_a_check_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool, waits: bool
) -> None:
    monkeypatch.setattr(image_stack, "LOCK", str(tmp_path / "lock"))
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        began = time.monotonic()
        with image_stack.alone(check):
            waited = time.monotonic() - began
    assert (waited > 0.4) is waits


def test_nobody_else_can_keep_a_build_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may be read may be locked."""
    monkeypatch.setattr(image_stack, "LOCK", str(tmp_path / "lock"))
    with image_stack.alone(check=False):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_what_builds_left_that_were_killed_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_stack, "RUN", str(tmp_path))
    old, other = tmp_path / "gpustead-build-old", tmp_path / "gpustead-builder.lock"
    old.mkdir()
    (old / "secret0").write_text("s3cret")
    other.touch()
    for name, age in (("dead", 90000), ("new", 100)):
        (tmp_path / f"gpustead-progress.{name}").touch()
        os.utime(tmp_path / f"gpustead-progress.{name}", (time.time() - age,) * 2)
    with image_stack.private(check=True) as work:
        assert old.exists() and work.startswith(f"{tmp_path}/gpustead-build-")
    stay = [other.name, "gpustead-progress.new"]
    with image_stack.private(check=False) as work:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*stay, Path(work).name])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)


def test_what_is_reached_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with reporter(str(path)) as report:
        report({"layer": "torch", "state": "built"})
        assert json.loads(path.read_text()) == {"layer": "torch", "state": "built"}
    assert [json.loads(line)["state"] for line in path.read_text().splitlines()] == ["built", "ended"]
    with reporter(None) as report:
        report({"layer": "torch", "state": "built"})


def test_the_file_says_that_a_build_ended_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with pytest.raises(OSError), reporter(str(path)):
        raise OSError("disk full")
    assert json.loads(path.read_text()) == {"state": "ended"}
