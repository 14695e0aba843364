"""What a site writes into the group_vars of a checkout counts in every playbook, wherever that lies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SHOW = "- {hosts: all, gather_facts: false, tasks: [{ansible.builtin.debug: {var: cluster_name}}]}\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("group_vars", "playbooks/group_vars"):
        shutil.copytree(PROJECT / part, folder / part, symlinks=True)
    for part in (".", "playbooks"):
        (folder / part / "show.yml").write_text(SHOW)
    policy = folder / "group_vars" / "all" / "cluster.yml"
    policy.write_text(f"{policy.read_text()}cluster_name: theirs\n")
    return folder


def cluster_name(playbook: Path, inventory: Path) -> str:
    ansible = Path(sys.executable).with_name("ansible-playbook")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(inventory.parent),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    command = [str(ansible), "-i", str(inventory), str(playbook)]
    done = subprocess.run(command, env=environment, cwd=playbook.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["gpu01"]["cluster_name"])


@pytest.mark.parametrize("folder", [".", "playbooks"])
def test_the_group_vars_of_a_checkout_count(checkout: Path, tmp_path: Path, folder: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {gpu01: {ansible_connection: local}}}\n")
    assert cluster_name(checkout / folder / "show.yml", inventory) == "theirs"


@pytest.mark.parametrize("folder", [".", "playbooks"])
def test_as_shipped_they_set_nothing_over_an_inventory(tmp_path: Path, folder: str) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("cluster_name: mine\n")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {gpu01: {ansible_connection: local}}}\n")
    for part in ("group_vars", "playbooks/group_vars"):
        shutil.copytree(PROJECT / part, tmp_path / "checkout" / part, symlinks=True)
    (tmp_path / "checkout" / folder / "show.yml").write_text(SHOW)
    assert cluster_name(tmp_path / "checkout" / folder / "show.yml", inventory) == "mine"
