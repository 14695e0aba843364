"""How the action follows a build: the command that waits on the host runs in a real shell."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.action.image_stack import ActionModule


class Here(ActionModule):
    """Runs its commands on this host."""

    def __init__(self) -> None:
        pass

    def _low_level_execute_command(self, cmd: str, *_: Any, **__: Any) -> dict[str, Any]:
        return {"stdout": subprocess.run(["/bin/sh", "-c", cmd], capture_output=True, text=True, check=True).stdout}


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    path = tmp_path / "progress"
    path.write_text('{"state": "a"}\n{"state": "b"}\n{"sta')
    return path


def test_a_look_gives_the_whole_lines_that_are_new(progress: Path) -> None:
    assert Here()._look(str(progress), 0, 50) == [{"state": "a"}, {"state": "b"}]
    assert Here()._look(str(progress), 1, 50) == [{"state": "b"}]


def test_a_look_waits_no_longer_than_it_is_told(progress: Path) -> None:
    began = time.monotonic()
    assert Here()._look(str(progress), 2, 2) == []
    assert time.monotonic() - began >= 0.4


def test_a_look_ends_when_a_line_comes(progress: Path) -> None:
    def write() -> None:
        with progress.open("a") as file:
            file.write('te": "c"}\n')

    began = time.monotonic()
    threading.Timer(0.5, write).start()
    assert Here()._look(str(progress), 2, 100) == [{"state": "c"}]
    assert 0.5 <= time.monotonic() - began < 15
