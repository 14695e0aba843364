"""The start script of the image, run as it is: git and uv are real, wheels and repositories lie in a directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.tests.unit.wheels import wheel

SCRIPT = Path(__file__).parents[3] / "roles/images/files/stack/ssh/gpustead-start"
TOOLS = Path(sys.executable).parent  # uv is there
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to another user")
USER, OTHER = 64001, 64002


@dataclass
class Container:
    """A home, an environment of Python and a directory of commands, which stand for those of a container."""

    path: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.path / "home"

    def command(self, name: str, text: str) -> None:
        file = self.path / "bin" / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def start(self, *steps: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.path}/bin:{self.path}/venv/bin:{TOOLS}:/usr/bin:/bin",
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": str(self.path / "gitconfig"),
            **self.settings,
            **settings,
        }
        return subprocess.run(
            ["bash", str(SCRIPT), *steps], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def succeed(self, *steps: str, **settings: str) -> str:
        done = self.start(*steps, **settings)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refuse(self, *steps: str, **settings: str) -> str:
        """One line that says why; nothing else."""
        done = self.start(*steps, **settings)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = [line for line in done.stderr.splitlines() if "installing" not in line]
        assert line.startswith("gpustead-start: ")
        return line


@pytest.fixture
def container(tmp_path: Path) -> Container:
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    return Container(tmp_path)


def git(*words: str) -> str:
    command = ["git", "-c", "user.name=ada", "-c", "user.email=ada@localhost", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A bare repository with one commit."""
    git("init", "--quiet", str(tmp_path / "work"))
    (tmp_path / "work/README").write_text("found\n")
    git("-C", str(tmp_path / "work"), "add", "README")
    git("-C", str(tmp_path / "work"), "commit", "--quiet", "-m", "Begin")
    git("clone", "--quiet", "--bare", str(tmp_path / "work"), str(tmp_path / "ours.git"))
    return f"file://{tmp_path}/ours.git"


def test_nothing_is_done_where_nothing_is_declared(container: Container) -> None:
    assert container.succeed("torch", "caches", "extensions", "repositories") == ""
    assert list(container.home.iterdir()) == []


def test_a_step_that_there_is_not_is_refused(container: Container) -> None:
    assert "'cache' is none of torch, caches, extensions, repositories" in container.refuse("cache")


def test_a_missing_repository_is_cloned(container: Container, url: str) -> None:
    settings = {"GPUSTEAD_REPOSITORIES": f"{url} code/ours\n\n  {url}   theirs\n"}
    assert container.succeed("repositories", **settings) == ""
    for target in (container.home / "code/ours", container.home / "theirs"):
        assert (target / "README").read_text() == "found\n"
        assert target.stat().st_mode & 0o777 == 0o777 & ~umask()
    assert {path.name for path in container.home.iterdir()} == {"code", "theirs"}
    assert {path.name for path in (container.home / "code").iterdir()} == {"ours"}


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "dangling link"])
def test_what_is_there_is_not_touched(container: Container, url: str, kind: str) -> None:
    target = container.home / "ours"
    if "directory" in kind:
        target.mkdir()
        if kind == "directory":
            (target / "mine").touch()
    elif kind == "file":
        target.touch()
    else:
        target.symlink_to("nowhere")
    before = target.lstat()
    container.succeed("repositories", GPUSTEAD_REPOSITORIES=f"{url} ours")
    assert target.lstat() == before
    assert [path.name for path in container.home.iterdir()] == ["ours"]


def test_containers_that_start_at_once_end_with_one_whole_clone(container: Container, url: str) -> None:
    environment = {**os.environ, "HOME": str(container.home), "GPUSTEAD_REPOSITORIES": f"{url} ours"}
    runs = [subprocess.Popen(["bash", str(SCRIPT), "repositories"], env=environment) for _ in range(4)]
    assert [run.wait(timeout=120) for run in runs] == [0] * 4
    assert git("-C", str(container.home / "ours"), "status", "--porcelain") == ""
    assert [path.name for path in container.home.iterdir()] == ["ours"]


def test_a_clone_that_fails_is_told_and_leaves_nothing(container: Container) -> None:
    line = container.refuse("repositories", GPUSTEAD_REPOSITORIES=f"file://{container.path}/none.git code/none")
    assert f"file://{container.path}/none.git cannot be cloned to {container.home}/code/none: " in line
    assert list((container.home / "code").iterdir()) == []


@pytest.mark.parametrize(
    "line",
    ["{url}", "{url} /srv/ours", "{url} ../ours", "{url} a/../../ours", "{url} ours main"],
)
def test_a_line_that_is_none_is_refused(container: Container, url: str, line: str) -> None:
    said = container.refuse("repositories", GPUSTEAD_REPOSITORIES=line.format(url=url))
    assert "write each line as <url> <directory below the home>" in said
    assert list(container.home.iterdir()) == []


@pytest.mark.parametrize(
    "secret",
    ["https://ada:secret@host.invalid/a.git", "https://secret@host.invalid/a.git", "ssh://ada:s@cret@host.invalid/a"],
)
def test_a_url_with_a_secret_is_refused_and_not_shown(container: Container, secret: str) -> None:
    line = container.refuse("repositories", GPUSTEAD_REPOSITORIES=f"{secret} ours")
    assert "://host.invalid/a" in line
    assert "has a password or token in it" in line
    assert "cret" not in line


def test_secrets_in_what_git_says_are_not_shown(container: Container) -> None:
    container.command("git", "echo \"fatal: unable to access 'https://ada:hidden@host/a.git/'\" >&2; exit 128")
    line = container.refuse("repositories", GPUSTEAD_REPOSITORIES="https://host.invalid/a.git ours")
    assert line.endswith("fatal: unable to access 'https://host/a.git/'")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can enter; pytest keeps its own to itself."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


IDS = {"GPUSTEAD_UID": str(USER), "GPUSTEAD_GID": str(USER)}


@AS_ROOT
def test_caches_are_made_and_given_to_the_user(container: Container, public: Path) -> None:
    paths = {name: public / name for name in ("made/below", "of_docker", "own")}
    for name, owner in {"of_docker": 0, "own": USER}.items():
        paths[name].mkdir()
        (paths[name] / "in_it").touch()
        os.chown(paths[name], owner, owner)
    (public / "outside").touch()
    (public / "of_docker/others").touch()
    os.chown(public / "of_docker/others", OTHER, OTHER)
    os.link(public / "outside", public / "of_docker/linked")
    (public / "of_docker/link").symlink_to(public / "outside")
    for _ in range(2):
        container.succeed("caches", GPUSTEAD_CACHES=" ".join(map(str, paths.values())), **IDS)
        assert {path.stat().st_uid for path in paths.values()} == {USER}
    # What root had made in it is the user's; what somebody else had, or lies elsewhere, too, is not.
    owners = {"of_docker/in_it": USER, "of_docker/others": OTHER, "own/in_it": 0, "outside": 0, "made": 0}
    assert {name: (public / name).stat().st_uid for name in owners} == owners


@AS_ROOT
def test_a_cache_that_cannot_be_is_named(container: Container) -> None:
    (container.path / "file").touch()
    line = container.refuse("caches", GPUSTEAD_CACHES=f"{container.path}/file", **IDS)
    assert f"{container.path}/file cannot be made or given to {USER}" in line
    assert "GPUSTEAD_CACHES has 'cache'" in container.refuse("caches", GPUSTEAD_CACHES="cache", **IDS)


def lead_away(local: Path, victim: Path) -> str:
    (local / "cache").symlink_to(victim)
    return "cache"


def lead_its_parent_away(local: Path, victim: Path) -> str:
    (local / "cache").symlink_to(victim)
    return "cache/new"


def lead_nowhere(local: Path, victim: Path) -> str:
    (local / "cache").symlink_to(victim / "new")
    return "cache"


def move_what_is_roots(local: Path, victim: Path) -> str:
    """As an account may with what was made as root in its directory."""
    (local / "of_root").mkdir(mode=0o700)
    (local / "of_root").rename(local / "cache")
    return "cache"


def have_somebody_elses(local: Path, victim: Path) -> str:
    (local / "cache").mkdir()
    os.chown(local / "cache", OTHER, OTHER)
    return "cache"


@AS_ROOT
@pytest.mark.parametrize(
    "attack", [lead_away, lead_its_parent_away, lead_nowhere, move_what_is_roots, have_somebody_elses]
)
def test_root_gives_nothing_away_where_an_account_may_lead_it(container: Container, public: Path, attack: Any) -> None:
    local, victim = public / "local", public / "victim"
    local.mkdir()
    victim.mkdir()
    (victim / "secret").touch()
    place = local / attack(local, victim)
    os.chown(local, USER, USER)
    before = owners(public)
    assert f"{place} cannot be made or given to {USER}" in container.refuse("caches", GPUSTEAD_CACHES=str(place), **IDS)
    assert owners(public) == before


def owners(top: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_uid for path in sorted(top.rglob("*"))}


@AS_ROOT
def test_what_the_node_binds_into_a_home_is_given(container: Container, public: Path) -> None:
    home, node = public / "home", public / "node"
    (home / "cache").mkdir(parents=True)
    (node / "by_root").mkdir(parents=True)
    os.chown(home, USER, USER)
    bind = f"mount --bind {node} {home}/cache && exec bash {SCRIPT} caches"
    settings = {**os.environ, **IDS, "GPUSTEAD_CACHES": f"{home}/cache"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", bind], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (node, node / "by_root")} == {USER}


@AS_ROOT
def test_an_account_gets_a_copy_of_the_extensions_that_the_image_brings(container: Container, public: Path) -> None:
    prebuilt, place = public / "prebuilt", public / "places"
    (prebuilt / "op").mkdir(parents=True)
    (prebuilt / "op/op.so").write_text("built")
    place.mkdir()
    os.chown(place, USER, USER)
    command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "bash", "-s", "extensions"]
    settings = {**os.environ, "GPUSTEAD_EXTENSIONS": str(prebuilt), "TORCH_EXTENSIONS_DIR": str(place / "extensions")}
    for text in ("built", "changed"):
        done = subprocess.run(
            command, input=SCRIPT.read_text(), env=settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert [path.name for path in place.iterdir()] == ["extensions"]
        copy = place / "extensions/op/op.so"
        assert copy.read_text() == text
        copy.write_text("changed")  # what is there stays
    os.symlink("/none", place / "link")
    container.succeed("extensions", GPUSTEAD_EXTENSIONS=str(prebuilt), TORCH_EXTENSIONS_DIR=str(place / "link"))
    (place / "link").unlink()
    assert {path.stat().st_uid for path in place.rglob("*")} == {USER}
    assert (prebuilt / "op/op.so").read_text() == "built"


@AS_ROOT
def test_the_copy_is_as_old_as_what_was_built(container: Container, public: Path) -> None:
    (public / "prebuilt").mkdir()
    (public / "prebuilt/op.so").touch()
    os.utime(public / "prebuilt/op.so", ns=(1, 1795909666047426246))
    settings = {"GPUSTEAD_EXTENSIONS": str(public / "prebuilt"), "TORCH_EXTENSIONS_DIR": str(public / "own")}
    container.succeed("extensions", **settings)
    assert (public / "own/op.so").stat().st_mtime_ns == 1795909666047426246


@pytest.fixture
def python(container: Container) -> Container:
    """With an environment of Python and a directory with wheels for the CPU and for a GPU, and no index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(container.path / "venv")], check=True)
    wheel(container.path / "cpu", "torch", "9.1.0+cpu", ["numpy"])
    wheel(container.path / "gpu", "torch", "9.1.0+cu126", ["numpy"])
    wheel(container.path / "wheels", "numpy", "2.0")
    container.settings = {
        "VIRTUAL_ENV": str(container.path / "venv"),
        "GPUSTEAD_TORCH": "9.1.0",
        "GPUSTEAD_TORCH_INDEX": f"file://{container.path}/gpu-index",
        "GPUSTEAD_TORCH_CPU_INDEX": f"file://{container.path}/cpu-index",
        "GPUSTEAD_WHEELHOUSE": str(container.path / "wheels"),
        "UV_DEFAULT_INDEX": f"file://{container.path}/empty-index",
    }
    for index in ("gpu", "cpu", "empty"):
        place = container.path / f"{index}-index" / "torch"
        place.mkdir(parents=True)
        files = (container.path / index).glob("*.whl")
        links = "".join(f'<a href="{file.as_uri()}">{file.name}</a>' for file in files)
        (place / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return container


def installed(container: Container) -> str:
    code = "import torch, numpy; print(torch.__version__)"
    python = container.path / "venv/bin/python"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("smi", "kind", "version"),
    [
        (None, "CPU", "9.1.0+cpu"),
        ("echo 560.35.03", "GPU", "9.1.0+cu126"),
        ("echo 'No devices were found'", "CPU", "9.1.0+cpu"),
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", "CPU", "9.1.0+cpu"),
    ],
)
def test_pytorch_is_installed_for_what_the_container_has(
    python: Container, smi: str | None, kind: str, version: str
) -> None:
    if smi:
        python.command("nvidia-smi", smi)
    assert f"installing PyTorch 9.1.0 for the {kind}" in python.succeed("torch")
    assert installed(python) == version
    assert python.succeed("torch") == ""


def test_pytorch_that_is_there_stays(python: Container) -> None:
    python.succeed("torch")
    assert python.succeed("torch", GPUSTEAD_TORCH="9.1.0+cpu", PATH="/usr/bin:/bin") == ""
    # Where there is no environment of its own, it is in that of the accounts' PATH.
    paths = {"PATH": "/usr/bin:/bin", "GPUSTEAD_PATH": f"{python.path}/venv/bin:/usr/bin:/bin"}
    assert python.succeed("torch", VIRTUAL_ENV="", **paths) == ""


def test_another_version_replaces_it(python: Container) -> None:
    python.succeed("torch")
    wheel(python.path / "wheels", "torch", "9.2.0")
    python.succeed("torch", GPUSTEAD_TORCH="9.2.0")
    assert installed(python) == "9.2.0"


def test_without_an_index_the_wheels_do(python: Container) -> None:
    wheel(python.path / "wheels", "torch", "9.1.0")
    python.succeed("torch", GPUSTEAD_TORCH_CPU_INDEX="")
    assert installed(python) == "9.1.0"


def test_pytorch_that_is_not_to_be_had_is_told(python: Container) -> None:
    line = python.refuse("torch", GPUSTEAD_TORCH="9.9.9")
    assert f"PyTorch 9.9.9 for the CPU is not to be had from file://{python.path}/cpu-index: " in line


def test_an_image_without_uv_is_told(python: Container) -> None:
    line = python.refuse("torch", PATH="/usr/bin:/bin")
    assert "GPUSTEAD_TORCH is 9.1.0, but the image has no uv: add layer uv to images_stack" in line


@AS_ROOT
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("venv/bin", "but others than root may write where {}/venv/bin/python lies: root runs it"),
        ("wheels", "GPUSTEAD_WHEELHOUSE is {}/wheels: root installs from it"),
    ],
)
@pytest.mark.parametrize("how", ["another's", "writable", "in a directory of another's", "a link"])
def test_root_runs_and_installs_nothing_from_where_others_may_write(
    python: Container, place: str, words: str, how: str
) -> None:
    directory = python.path / place
    marker = python.path / "ran"
    (python.path / "venv/lib/python").mkdir(parents=True)
    if how == "another's":
        os.chown(directory, USER, USER)
    elif how == "writable":
        directory.chmod(0o1777)
    elif how == "a link":
        directory.rename(python.path / "elsewhere")
        directory.symlink_to(python.path / "elsewhere")
    else:
        os.chown(directory.parent, USER, USER)
    if place == "venv/bin":
        (directory / "python").unlink()
        (directory / "python").write_text(f"#!/bin/sh\ntouch {marker}\n")
        (directory / "python").chmod(0o755)
    line = python.refuse("torch")
    assert words.format(python.path) in line or (how.startswith("in a") and "others than root may write" in line)
    assert not marker.exists()
    assert not list((python.path / "venv/lib").glob("*/site-packages/torch"))


def test_root_imports_nothing_from_where_it_is_started_or_told(python: Container, tmp_path: Path) -> None:
    python.succeed("torch")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/torch.py").write_text(f"import pathlib; pathlib.Path('{tmp_path}/ran').touch()")
    environment = {"PYTHONPATH": str(tmp_path / "evil")}
    assert python.succeed("torch", **environment) == ""
    assert not (tmp_path / "ran").exists()
