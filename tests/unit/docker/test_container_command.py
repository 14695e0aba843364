# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shell of module container_command; what stands for Docker hands the command over to this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.modules import container_command

ROOT = Path(__file__).parents[3]
# docker compose --project-name P exec -T --user U SERVICE COMMAND…
DOCKER = '#!/bin/sh\necho "$2 $3 $4 $6 $7 $8" >> "$0.log"\nshift 8\nexec "$@"\n'


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def ask(capsys: pytest.CaptureFixture[str], *argv: str, **more: Any) -> dict[str, Any]:
    arguments = {"project": "gpustead-mesh", "service": "mesh", "user": "ada", "argv": list(argv), **more}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        container_command.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_the_end_of_what_it_says_is_told_escaped(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = r"yes line | head -n 100000; printf 'loss 0.1\033[2J\302\2332J\n'; echo done >&2"
    answer = ask(capsys, "sh", "-c", script, lines=3)
    assert (answer["changed"], answer["rc"]) == (True, 0)
    assert answer["said"] == ["line", r"loss 0.1\x1b[2J\x9b2J", "done"]
    assert docker.with_name("docker.log").read_text() == "--project-name gpustead-mesh exec --user ada mesh\n"


def test_one_that_fails_is_told_with_its_last_words(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "sh", "-c", "echo no such script; echo; exit 3")
    assert answer["msg"].startswith("sh in gpustead-mesh/mesh ended with 3 (no such script): expected 0.")


def test_one_that_does_not_end_is_killed(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "sleep", "60", timeout=1)
    assert "ended with 124 (no end within 1 s, and was killed)" in answer["msg"]


def test_a_check_runs_nothing(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "true", _ansible_check_mode=True)["changed"] is True
    assert not docker.with_name("docker.log").exists()


def test_lines_are_followed_in_a_file(docker: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    script = r"printf 'step=1\033[2J\nnoise\nstep=2\n'; yes step | head -n 3000"
    answer = ask(capsys, "sh", "-c", script, lines=1, follow="^step", progress=str(progress))
    events = [json.loads(line) for line in progress.read_text().splitlines()]
    assert events[:2] == [{"state": "said", "line": r"step=1\x1b[2J"}, {"state": "said", "line": "step=2"}]
    assert (len(events), events[-1], answer["said"]) == (2001, {"state": "ended"}, ["step"])


def test_what_is_no_expression_runs_nothing(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "true", follow="step(")["msg"].startswith("follow 'step(': ")
    assert not docker.with_name("docker.log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="the file of progress lies in /run")
def test_a_run_says_what_the_command_says_while_it_runs(docker: Path, tmp_path: Path) -> None:
    script = "for step in 1 2 3; do echo step=$step; sleep 1; done; echo done"
    arguments = {"project": "p", "service": "s", "user": "ada", "argv": ["sh", "-c", script], "follow": "step="}
    task = {
        "gpustead.cluster.container_command": arguments,
        "environment": {"PATH": f"{docker.parent}:{os.environ['PATH']}"},
        "register": "ran",
    }
    show = {"ansible.builtin.debug": {"msg": "it said {{ ran.said | join(' ') }}"}}
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    play = {"hosts": "gpu01", "gather_facts": False, "vars": variables, "tasks": [task, show]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), "-i", "gpu01,", str(tmp_path / "play.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpu01: step=1\n" in done.stdout and "gpu01: step=3\n" in done.stdout
    assert "it said step=1 step=2 step=3 done" in done.stdout
