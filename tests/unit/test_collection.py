"""The collection as users get it: built, installed somewhere else, and run by its full name."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import tomllib
import yaml

PROJECT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (PROJECT / "plugins/modules").glob("*.py"))
NOT_FOR_USERS = (
    "tests/",
    "scripts/",
    "requirements/",
    "playbooks/group_vars",
    "molecule/",
    ".dev",
    ".ci",
    ".venv",
    ".cache",
    "inventory/lab",
    "ansible.cfg",
)


def run(*command: str, cwd: Path, collections: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["ANSIBLE_HOME"] = str(cwd / "home")
    if collections:
        environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    built = run("ansible-galaxy", "collection", "build", str(PROJECT), "--output-path", str(folder), cwd=folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("gpustead-cluster-*.tar.gz"))


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections")
    done = run(
        *("ansible-galaxy", "collection", "install", str(archive), "--no-deps", "--collections-path", str(folder)),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_archive_holds_what_users_need_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        links = [member.name for member in tar if member.issym() or member.islnk()]
    assert links == []
    assert {"README.md", "LICENSE", "meta/runtime.yml", "playbooks/site.yml", "playbooks/verify.yml"} <= set(names)
    assert [name for name in names if name.startswith(NOT_FOR_USERS)] == []
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".tar.gz"))] == []


def test_all_say_the_same_release() -> None:
    """What Galaxy is told, what the notes end with, the form for faults; and what is new stands in the notes."""
    release = yaml.safe_load((PROJECT / "galaxy.yml").read_text())["version"]
    releases = yaml.safe_load((PROJECT / "changelogs/changelog.yaml").read_text())["releases"]
    assert list(releases)[-1] == release
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == release
    assert f"placeholder: {release}," in (PROJECT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()
    told = {plugin["name"] for one in releases.values() for plugin in one.get("modules", ())}
    coming = list((PROJECT / "changelogs/fragments").glob("*.yml"))
    assert coming or told >= set(MODULES)


def test_what_ansible_test_finds_is_mended_and_not_ignored() -> None:
    assert list((PROJECT / "tests").glob("sanity/ignore*")) == []
    switched_off = re.compile("# *(pylint: *disable|type: *ignore)")
    files = [path for folder in ("plugins", "roles", "scripts") for path in (PROJECT / folder).rglob("*.py")]
    assert [path for path in files if switched_off.search(path.read_text())] == []


@pytest.mark.parametrize("playbook", ["client", "drift", "preflight", "site", "summary", "train", "verify"])
def test_playbooks_are_found_by_their_full_name(installed: Path, tmp_path: Path, playbook: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("gpu_nodes: {hosts: {gpu01: {ansible_host: 192.0.2.1}}}\n")
    done = run(
        *("ansible-playbook", "-i", str(inventory), "--syntax-check", f"gpustead.cluster.{playbook}"),
        cwd=tmp_path,
        collections=installed,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_documented(installed: Path, tmp_path: Path, module: str) -> None:
    done = run("ansible-doc", f"gpustead.cluster.{module}", cwd=tmp_path, collections=installed)
    assert done.returncode == 0, done.stderr
    assert "EXAMPLES" in done.stdout


def test_pages_in_the_archive_link_to_what_is_in_it(archive: Path) -> None:
    dead = []
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
        pages = {member.name: tar.extractfile(member) for member in tar if member.name.endswith(".md")}
        for page, file in pages.items():
            assert file
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read().decode()):
                path = os.path.normpath(os.path.join(os.path.dirname(page), target))
                if not re.match(r"[a-z]+:", target) and path not in names:
                    dead.append(f"{page}: {target}")
    assert dead == []
