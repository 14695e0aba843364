"""How an action follows its module: the command that waits on the host runs in a real shell."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.plugin_utils import followed
from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Progress, Said
from ansible_collections.gpustead.cluster.plugins.plugin_utils.followed import FollowedAction


class Here(FollowedAction):
    """Runs its commands on this host, and is given the answers of async_status."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        raise NotImplementedError  # abstract in ActionBase, and not what is looked at here

    def get_shell_option(self, option: str, default: Any = None) -> Any:
        return default

    def _execute_module(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.answers.pop(0)

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
    assert 0.4 <= time.monotonic() - began < 4


def test_a_look_ends_when_a_line_comes(progress: Path) -> None:
    def write() -> None:
        with progress.open("a") as file:
            file.write('te": "c"}\n')

    began = time.monotonic()
    threading.Timer(0.5, write).start()
    assert Here()._look(str(progress), 2, 100) == [{"state": "c"}]
    assert 0.5 <= time.monotonic() - began < 15


def test_a_build_is_followed_until_its_answer_is_there(progress: Path, tmp_path: Path) -> None:
    progress.write_text('{"state": "ended"}\n')
    results = tmp_path / "results of a job"
    results.touch()
    running = {"started": 1, "finished": 0, "results_file": str(results)}
    action = Here(running, {**running, "finished": 1, "changed": True})
    assert action._follow("1.2", str(progress), Progress("gpu01", 30), {}) == {"changed": True}
    assert not results.exists()


def test_a_build_that_died_without_a_word_is_asked_for(progress: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "LOOK", 0)
    monkeypatch.setattr(followed, "PATIENCE", 0)
    progress.write_text("")
    action = Here({"started": 1, "finished": 0}, {"failed": True, "msg": "could not find job"})
    assert action._follow("1.2", str(progress), Progress("gpu01", 30), {}) == {
        "failed": True,
        "msg": "could not find job",
    }


def test_what_a_command_says_is_shown_escaped_and_of_many_lines_the_last() -> None:
    said = Said("gpu01")
    assert said.lines([{"state": "said", "line": "step=0 \x1b[2J"}], 0) == ["gpu01: step=0 \\x1b[2J"]
    many = said.lines([{"state": "said", "line": str(number)} for number in range(30)] + [{"state": "ended"}], 0)
    assert (many[0], many[1], many[-1], len(many)) == ("gpu01: (20 lines)", "gpu01: 20", "gpu01: 29", 11)
    assert said.ended
