"""The scenario fails when one of its steps does, and says last what failed; molecule and pytest are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MOLECULE = """#!/bin/sh
echo "$1" >>molecule-calls
echo "ERROR| [ERROR]: of $1" >>.cache/molecule.log
[ "$1" != "$BROKEN" ]
"""
PYTEST = """#!/bin/sh
echo "$*" >>pytest-calls
[ "$BROKEN" != pytest ]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("integration.sh", "quietly.sh", "step.sh"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for name, text in (("molecule", MOLECULE), ("pytest", PYTEST)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def scenario(
    project: Path, broken: str = "", name: str = "default", **environment: str
) -> subprocess.CompletedProcess[str]:
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "scripts/integration.sh", name], cwd=project, env={"PATH": path, "BROKEN": broken, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def calls(project: Path) -> list[str]:
    return (project / "molecule-calls").read_text().split()


def test_all_steps_pass(project: Path) -> None:
    ended = scenario(project)
    assert ended.returncode == 0 and "[ERROR]" not in ended.stdout
    assert calls(project) == ["destroy", "create", "check", "converge", "idempotence", "verify", "destroy"]


@pytest.mark.parametrize("step", ["create", "check", "converge", "idempotence", "verify"])
def test_a_step_that_fails_is_the_last_and_its_errors_are_what_one_reads_last(project: Path, step: str) -> None:
    ended = scenario(project, step, KEEP_LAB="1")
    assert ended.returncode != 0
    assert ended.stdout.splitlines()[-1] == f"ERROR| [ERROR]: of {step}" and ended.stdout.count("[ERROR]") == 1
    assert calls(project)[-1] == step


def test_the_lab_goes_when_a_step_fails_and_stays_when_told_to(project: Path) -> None:
    scenario(project, "converge")
    assert calls(project)[-2:] == ["converge", "destroy"]
    scenario(project, "converge", KEEP_LAB="1")
    assert calls(project)[-1] == "converge"


HOSTILE = SCRIPTS.parent / "tests/integration/hostile"
KERNEL = SCRIPTS.parent / "tests/integration/kernel"


def attacks(project: Path) -> set[str]:
    """The files of attacks that ran; where one was ignored, or none named, it did not."""
    words = (project / "pytest-calls").read_text().split()
    named = [word for i, word in enumerate(words) if word.startswith("tests/") and words[i - 1] != "--ignore"]
    paths = [SCRIPTS.parent / word for word in named if "hostile" in word]
    return {file.name for path in paths for file in (path.glob("test_*.py") if path.is_dir() else [path])}


def test_attacks_that_run_playbooks_wait_for_the_full_run(project: Path) -> None:
    scenario(project)
    quick = attacks(project)
    assert quick and not any(".playbook(" in (HOSTILE / name).read_text() for name in quick)
    scenario(project, FULL="1")
    assert attacks(project) == {file.name for file in HOSTILE.glob("test_*.py")}
    assert "--ignore tests/integration/hostile" in (project / "pytest-calls").read_text()


def test_the_lab_of_real_kernels_has_its_own_inventory_and_tests(project: Path) -> None:
    assert scenario(project, name="kernel", FULL="1").returncode == 0
    assert calls(project) == ["destroy", "create", "converge", "idempotence", "verify", "destroy"]
    (ran,) = (project / "pytest-calls").read_text().splitlines()
    assert ran.endswith(" --inventory molecule/kernel/inventory")
    assert {word for word in ran.split() if word.endswith(".py")} == {
        f"tests/integration/kernel/{file.name}" for file in KERNEL.glob("test_*.py")
    }
    assert scenario(project, "pytest", "kernel").returncode != 0
    scenario(project)
    assert "--ignore tests/integration/kernel" in (project / "pytest-calls").read_text()


def test_parts_of_it_run_in_the_lab_that_stands_or_in_a_new_one(project: Path) -> None:
    parts = {"PARTS": "test_nfs test_boots", "KEEP_LAB": "1"}
    scenario(project, name="kernel", **parts)
    built = calls(project)
    assert built == ["destroy", "create", "converge", "idempotence", "verify"]
    (project / "molecule/kernel/inventory").mkdir(parents=True)
    (project / "molecule/kernel/inventory/hosts.yml").touch()
    assert scenario(project, name="kernel", **parts).returncode == 0
    assert calls(project) == built
    kernel = "tests/integration/kernel"
    ran = (project / "pytest-calls").read_text().splitlines()[-1]
    assert f"{kernel}/test_nfs.py {kernel}/test_boots.py --inventory" in ran and ran.count(kernel) == 2
    # Without it, and without KEEP_LAB, nothing stays.
    scenario(project, name="kernel", PARTS="test_nfs")
    assert calls(project) == [*built, "destroy"]
    scenario(project, name="kernel", KEEP_LAB="1")
    assert calls(project) == [*built, "destroy", *built]


def test_a_failed_test_from_outside_fails_it(project: Path) -> None:
    assert scenario(project, "pytest").returncode != 0


def test_a_lab_that_does_not_go_fails_it_and_is_shown(project: Path) -> None:
    with (project / "bin" / "molecule").open("a") as molecule:
        molecule.write('[ "$(wc -l <molecule-calls)" -lt 7 ] || { echo still here; exit 1; }\n')
    ended = scenario(project)
    assert ended.returncode == 1 and "still here" in ended.stdout
