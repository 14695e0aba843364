# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node that hangs keeps nobody waiting, and fails nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# As on a connection of an earlier run to a host that does not answer any more.
SSH = "#!/bin/sh\ncase $* in *' -o ControlPersist') exit 0;; esac\nexec sleep 60\n"
PLAY = f"""
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_tasks: {ROOT}/playbooks/tasks/answering.yml
    - ansible.builtin.copy:
        content: "{{{{ [groups['nodes_answering'], groups['nodes_silent']] | to_json }}}}"
        dest: "{{{{ playbook_dir }}}}/found"
      run_once: true
      delegate_to: well
"""


def test_one_that_hangs_is_silent(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY)
    hung = {"ansible_ssh_executable": str(tmp_path / "ssh"), "ansible_user": "root", "__answer_seconds": 3}
    # One that is slow to answer is not silent.
    well = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "__answer_seconds": 200}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"hung": hung, "well": well}}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_PIPELINING": "true"},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "found").read_text()) == [["well"], ["hung"]]
