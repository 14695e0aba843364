"""The collection as users install it, run by its full name from a directory of theirs, against the lab."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT, Lab


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections")
    for command in (
        ["ansible-galaxy", "collection", "build", str(PROJECT), "--output-path", str(folder)],
        ["ansible-galaxy", "collection", "install", "--no-deps", "--collections-path", str(folder)],
    ):
        archives = [str(path) for path in folder.glob("gpustead-cluster-*.tar.gz")]
        subprocess.run([*command, *archives], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    "arguments", [["gpustead.cluster.verify"], ["gpustead.cluster.site", "--tags", "base,firewall"]]
)
def test_playbooks_run_from_the_installed_collection(
    lab: Lab, collections: Path, tmp_path: Path, arguments: list[str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    done = subprocess.run(
        ["ansible-playbook", "-i", str(lab.inventory), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"^gpu\d+ .*ok=(\d+) +changed=(\d+)", done.stdout, re.MULTILINE)
    assert len(ran) == len(lab.nodes)
    if "site" in arguments[0]:
        assert {changed for _, changed in ran} == {"0"}, done.stdout
