# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shell of module container_command; what stands for Docker hands the command over to this host."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.modules import container_command

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
