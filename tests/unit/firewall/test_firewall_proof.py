# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof as Ansible runs it: over a login of its own, and over none where nothing was changed.

An ssh of the test's own runs the commands here, and refuses new connections while a file says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_trial import FOLDER

ROOT = Path(__file__).parents[3]
SSH = """#!/bin/sh
echo "$*" >>@FOLDER@/asked
case "$*" in *ControlPath=none*) [ ! -e @FOLDER@/cut ] || { echo "connection timed out" >&2; exit 255; } ;; esac
for last; do :; done
exec sh -c "$last"
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - gpustead.cluster.ufw_trial: {state: proved}
"""
INVENTORY = """
all:
  hosts:
    one:
      ansible_host: 192.0.2.1
      ansible_port: 2022
      ansible_connection: ssh
      ansible_python_interpreter: {python}
      ansible_ssh_executable: {folder}/ssh
      ansible_ssh_args: -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={folder}/own
      ansible_ssh_common_args: -J jump.example
"""


@pytest.fixture
def host() -> Iterator[Path]:
    """Where a trial is kept on the host, which is this machine."""
    if os.geteuid() or os.path.exists(FOLDER):
        pytest.skip("a host with a trial of its own, or no root")
    os.makedirs(FOLDER)
    yield Path(FOLDER)
    shutil.rmtree(FOLDER, ignore_errors=True)


def prove(folder: Path) -> tuple[int, str, list[str]]:
    """Status, output, and the arguments of each login of its own."""
    ssh = folder / "ssh"
    ssh.write_text(SSH.replace("@FOLDER@", str(folder)))
    ssh.chmod(0o755)
    (folder / "play.yml").write_text(PLAY)
    (folder / "hosts.yml").write_text(INVENTORY.format(folder=folder, python=sys.executable))
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [program, "-i", "hosts.yml", "play.yml"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    asked = (folder / "asked").read_text().splitlines()
    return done.returncode, " ".join((done.stdout + done.stderr).split()), [a for a in asked if "ControlPath=none" in a]


def test_where_nothing_was_changed_nobody_logs_in_anew(tmp_path: Path, host: Path) -> None:
    status, said, logins = prove(tmp_path)
    assert (status, logins) == (0, []), said
    assert not host.exists(), "what was kept goes"


def test_a_new_login_ends_the_trial(tmp_path: Path, host: Path) -> None:
    (host / "armed").write_text("1")
    status, said, logins = prove(tmp_path)
    assert (status, len(logins)) == (0, 1), said
    # ssh takes what it is told first. All else is as the host's own connection has it.
    assert logins[0].index("ControlPath=none") < logins[0].index("/own")
    assert logins[0].index("ControlMaster=no") < logins[0].index("ControlMaster=auto")
    assert "-J jump.example" in logins[0]
    assert "2022" in logins[0]
    assert not host.exists()


def test_without_one_it_waits_for_the_host_and_fails(tmp_path: Path, host: Path) -> None:
    (host / "armed").write_text("1")
    (tmp_path / "cut").touch()

    def take_back() -> None:
        time.sleep(8)
        (host / "decided").mkdir()
        (host / "taken-back").touch()
        (tmp_path / "cut").unlink()

    threading.Thread(target=take_back).start()
    status, said, logins = prove(tmp_path)
    assert status == 2
    assert "SSH to 192.0.2.1 port 2022: a new login under the changed firewall rules failed" in said
    assert "connection timed out" in said
    assert "They were taken back" in said
    assert len(logins) > 1
    assert not host.exists()


def test_one_that_comes_too_late_fails(tmp_path: Path, host: Path) -> None:
    (host / "armed").write_text("1")
    (host / "decided").mkdir()
    (host / "taken-back").touch()
    status, said, _ = prove(tmp_path)
    assert status == 2
    assert "it came too late" in said
    assert "They were taken back" in said
