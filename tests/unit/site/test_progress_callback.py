"""The callback, with ansible-playbook itself: hosts are names of this machine, one cannot be reached."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
RED = "\x1b[0;31m"
HOSTS = {
    "gpu01": {},
    "gpu02": {},
    "gpu03": {},
    "away": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9},
}
VARIABLES = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
# A module, so that what it warns of comes as from a host.
WARNS = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({})
module.warn("the disk is \\x1b[2J old")
module.deprecate("old option", version="9.9.9", collection_name="gpustead.cluster")
module.exit_json(changed=False)
"""
PLAY = r"""
- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: Greet
      ansible.builtin.debug: {msg: "hello from {{ inventory_hostname }}"}
    - name: Show a secret
      ansible.builtin.debug: {msg: topsecret}
      no_log: true
    - name: Reach
      ansible.builtin.ping:
    - name: Wait
      ansible.builtin.command: sleep 12
      when: inventory_hostname == 'gpu02'
    - name: Ignore
      ansible.builtin.command: sh -c 'echo boo >&2; exit 3'
      ignore_errors: true
      run_once: true
    - name: Fall back
      block:
        - name: Pull
          ansible.builtin.include_tasks: pull.yml
      rescue:
        - name: Build
          ansible.builtin.command: "true"
    - name: Warn
      warns:
      when: inventory_hostname == 'gpu01'
    - name: Work on parts
      ansible.builtin.command: "sh -c 'echo topsecret; exit {{ item }}'"
      loop: [0, 5]
      no_log: true
      ignore_errors: true
      run_once: true
- name: Nobody
  hosts: all:!all
  tasks: []
- name: End
  hosts: all
  gather_facts: false
  tasks:
    - name: Fail
      ansible.builtin.fail: {msg: "bad \x1b[2J\n0:00:00 Done: 9 unchanged"}
      when: inventory_hostname == 'gpu03'
    - name: Mount disks
      ansible.builtin.command: "sh -c 'echo no {{ item }} >&2; exit {{ item }}'"
      loop: [0, 1, 2]
      when: inventory_hostname == 'gpu01'
"""
SMALL = r"""
- name: Small
  hosts: gpu01,gpu02
  gather_facts: false
  tasks:
    - name: Write
      ansible.builtin.copy: {content: "new \x1b[2J\n", dest: "OUT-{{ inventory_hostname }}", mode: "0644"}
    - name: Speak
      ansible.builtin.debug: {msg: spoken}
    - name: Wait
      ansible.builtin.command: sleep 2
      when: not ansible_check_mode
      changed_when: false
    - name: Refuse
      ansible.builtin.assert: {that: false, fail_msg: refused}
      when: refuse | default(false) | bool
"""
ROLES = """
- name: Up
  hosts: gpu01
  gather_facts: false
  tasks:
    - name: The first
      ansible.builtin.include_role: {name: first}
    - name: The second
      ansible.builtin.include_role: {name: second}
      when: false
    - name: The third
      ansible.builtin.include_role: {name: third}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("progress")
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": VARIABLES, "hosts": HOSTS}}))
    (folder / "play.yml").write_text(PLAY)
    (folder / "pull.yml").write_text("- {name: Ask, ansible.builtin.fail: {msg: no registry}}\n")
    (folder / "small.yml").write_text(SMALL.replace("OUT", str(folder / "out")))
    (folder / "roles.yml").write_text(ROLES)
    for role in ("first", "second", "third"):
        tasks = folder / "roles" / role / "tasks" / "main.yml"
        tasks.parent.mkdir(parents=True)
        tasks.write_text('- {name: Do it, ansible.builtin.command: "true", changed_when: true}\n')
    (folder / "library").mkdir()
    (folder / "library" / "warns.py").write_text(WARNS)
    return folder


def environment(**more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PROFILE_"))},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"),
        "ANSIBLE_STDOUT_CALLBACK": "gpustead.cluster.progress",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        **more,
    }


def run(folder: Path, *args: str, **more: str) -> tuple[int, str]:
    command = [str(PROGRAM), "-i", "hosts.yml", *args]
    done = subprocess.run(
        command, cwd=folder, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture(scope="module")
def colored(folder: Path) -> str:
    code, text = run(folder, "play.yml", ANSIBLE_FORCE_COLOR="1", ANSIBLE_DEPRECATION_WARNINGS="1")
    assert code in (2, 4, 6), text
    return text


@pytest.mark.parametrize(
    "expected",
    [
        r"^\d:\d\d:\d\d \[1/3\] Look$",
        r"^        (\w+): hello from \1\n        the same: .*gpu0\d$",
        r"^        UNREACHABLE away: Reach \(play.yml:11\)\n          .*(refused|pipe).*$",
        r"waiting \d+ s for gpu02: Wait",
        r"^        Ignore: the command ended with 3: boo \(ignored\)$",
        r"^        gpu0\d: Ask: no registry \(another way is tried\)\n        the same: gpu0\d, gpu0\d$",
        r"\[WARNING\]: .*the disk is \\x1b\[2J old",
        r"\[DEPRECATION WARNING\]: .*old option",
        r"^        Work on parts: what it said is not shown \(no_log\) \(ignored\)$",
        r"^\d:\d\d:\d\d       3 of 4 hosts done, 3 changed, 1 unreachable, .*\d s$",
        r"^\d:\d\d:\d\d \[3/3\] End$",
        r"^        FAILED gpu03: Fail \(play.yml:\d+\)\n          bad \\x1b\[2J\n          0:00:00 Done: 9 unchanged$",
        r"^        FAILED gpu01: Mount disks \(play.yml:\d+\)\n          1: the command ended with 1: no 1\n"
        r"          2: the command ended with 2: no 2$",
        r"^\d:\d\d:\d\d Failed: 1 changed, 1 unreachable, 2 failed$",
        r"^        changed      gpu02$",
        r"^        failed       gpu03: bad .* …$",
        r"^        failed       gpu01: 1: the command ended with 1: no 1 …$",
        r"^        Next: .* with --limit away,gpu01,gpu03\.",
    ],
)
def test_what_happened_is_told(colored: str, expected: str) -> None:
    assert re.search(expected, plain(colored), re.MULTILINE), plain(colored)


def test_nothing_is_told_twice_or_with_excerpts_or_in_secret(colored: str) -> None:
    text = plain(colored)
    for never in ("fatal:", "Origin:", "[ERROR]", "topsecret", "\x1b[2J", "Nobody"):
        assert never not in text, text
    assert text.count("no registry") == 1


def test_only_what_failed_is_red(colored: str) -> None:
    red = [plain(line).strip() for line in colored.splitlines() if RED in line]
    assert red
    assert [line for line in red if re.search("ignored|another way|hello", line)] == []
    assert [line for line in red if line.startswith("FAILED")] != []


def test_roles_are_steps(folder: Path) -> None:
    code, text = run(folder, "roles.yml")
    assert code == 0, text
    # On a slow machine the result of a step may have a line of its own.
    assert re.findall(r"^\S+ ( *\[\S+\] [\w ]+)", text, re.MULTILINE) == [
        "[1/1] Up",
        "  [1/3] The first",
        "  [3/3] The third",
    ]
    assert text.count("1 host done, 1 changed") == 2


def test_with_v_it_is_ansibles_usual_output(folder: Path) -> None:
    code, text = run(folder, "small.yml", "-v", "--check", "-e", "refuse=true")
    assert code == 2
    assert "fatal: [gpu01]: FAILED!" in text and "PLAY RECAP" in text and "[1/1] Small" not in text, text


def test_a_check_shows_diffs_beside_other_callbacks(folder: Path) -> None:
    posix = next(
        Path(one) / "ansible_collections"
        for one in sys.path
        if (Path(one) / "ansible_collections/ansible/posix").is_dir()
    )
    more = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks"}
    more["ANSIBLE_COLLECTIONS_PATH"] = f"{ROOT / '.dev'}:{posix.parent}"
    code, text = run(folder, "small.yml", "--check", "--diff", "-e", "refuse=true", **more)
    assert code == 2
    assert "A dry run (--check): nothing is changed." in text
    assert re.search(
        r"^        gpu0\d: Write\n        --- before\n(.*\n)*        \+new \\x1b\[2J$", text, re.MULTILINE
    ), text
    assert re.search(
        r"^        FAILED gpu0\d: Refuse .*\n          refused\n        FAILED the same: gpu0\d$", text, re.MULTILINE
    ), text
    assert "TASKS RECAP" in text and "Write ---" in text
    assert not list(folder.glob("out-*"))


def test_a_terminal_shows_what_runs_in_a_line_that_is_taken_back(folder: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [str(PROGRAM), "-i", "hosts.yml", "small.yml"], cwd=folder, env=environment(TERM="xterm"), stdin=follower,
        stdout=follower, stderr=follower,
    ) as process:  # fmt: skip
        os.close(follower)
        seen = b""
        try:
            while part := os.read(leader, 65536):
                seen += part
        except OSError:
            pass  # Linux says so when the other side is closed
        assert process.wait() == 0
    os.close(leader)
    text = seen.decode()
    assert re.search(r"\r\x1b\[2K0:00:\d\d \[1/1\] Small - \d+ s, gpu01, gpu02: Wait", text), text
    # What stays on the screen: each line after the last time that it was taken back.
    stays = [plain(line.rpartition("\x1b[2K")[2]).strip() for line in text.split("\n")]
    assert {"gpu01: spoken", "gpu02: spoken"} & set(stays), stays
    assert not [line for line in stays if " - " in line], stays
