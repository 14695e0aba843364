"""gpustead-install, by which the Dockerfiles of the stack install Python packages, with a real uv."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.tests.unit.wheels import wheel

SCRIPT = Path(__file__).parents[3] / "roles/images/files/stack/uv/gpustead-install"
TOOLS = Path(sys.executable).parent  # uv is there


class Build:
    """An environment of Python, and a wheelhouse without a lock at first."""

    def __init__(self, path: Path) -> None:
        self.path, self.wheels = path, path / "wheels"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path / "venv")], check=True)
        wheel(self.wheels, "torch", "9.1.0+cpu", ["sympy"])
        wheel(self.wheels, "sympy", "1.0")
        wheel(self.wheels, "sympy", "2.0")
        wheel(self.wheels, "other", "1.0")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{TOOLS}:/usr/bin:/bin",
            "HOME": str(self.path),
            "VIRTUAL_ENV": str(self.path / "venv"),
            "GPUSTEAD_WHEELHOUSE": str(self.wheels),
            "UV_DEFAULT_INDEX": self.path.as_uri(),  # which has none of them
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("bash", str(SCRIPT), *words)

    def lock(self, *requirements: str) -> Path:
        """A lock as the README says how to make it."""
        (self.path / "requirements.in").write_text("\n".join(requirements))
        command = ["uv", "pip", "compile", "--quiet", "--find-links", str(self.wheels), "--generate-hashes"]
        file = self.wheels / "python.lock"
        done = self.run(*command, str(self.path / "requirements.in"), "--output-file", str(file))
        assert done.returncode == 0, done.stderr
        return file

    @property
    def installed(self) -> list[str]:
        return self.run("uv", "pip", "freeze").stdout.split()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_without_a_lock_the_newest_is_taken(build: Build) -> None:
    assert build.install("torch==9.1.0").returncode == 0
    assert build.installed == ["sympy==2.0", "torch==9.1.0+cpu"]


def test_with_a_lock_its_versions_are(build: Build) -> None:
    build.lock("torch==9.1.0", "sympy<2", "other")
    assert build.install("torch==9.1.0").returncode == 0
    assert build.installed == ["sympy==1.0", "torch==9.1.0+cpu"]
    assert build.install("other").returncode == 0


def test_what_the_lock_does_not_have_is_refused(build: Build) -> None:
    build.lock("torch==9.1.0")
    assert build.install("torch==9.1.0").returncode == 0
    done = build.install("other")
    assert done.returncode == 1
    assert "images_python_lock does not have other==1.0: write it anew" in done.stderr


@pytest.mark.parametrize("name", ["torch", "sympy"])
def test_another_hash_is_refused(build: Build, name: str) -> None:
    file = build.lock("torch==9.1.0")
    file.write_text(re.sub(rf"(?m)(^{name}==.*\n.*sha256:)....", r"\g<1>0000", file.read_text()))
    done = build.install("torch==9.1.0")
    assert done.returncode == 1
    assert f"Hash mismatch for `{name}==" in done.stderr
    assert build.installed == []
