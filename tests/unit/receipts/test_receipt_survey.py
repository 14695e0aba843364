"""The survey beside Ansible's own way to the same hosts: the same commands, and what it leaves to Ansible.

A program that notes its arguments and runs the command here stands for ssh; the lab has the real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SSH = r"""#!{python}
import json, os, sys
*_, address, command = sys.argv
with open({notes!r}, "a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + "\n")
if address in ("gone", "mute"):
    sys.exit({{"gone": 255, "mute": 3}}[address])
os.execv("/bin/sh", ["sh", "-c", command])
"""
SUDO = """#!/bin/sh
while case $1 in /bin/*) false ;; esac; do shift; done
exec "$@"
"""
PLAYS = [
    {
        "hosts": "gpu_nodes",
        "gather_facts": False,
        "tasks": [
            {
                "gpustead.cluster.receipt_survey": {"to_run": True, "force": "{{ site_force | default(false) }}"},
                "register": "survey",
                "run_once": True,
            },
            {
                "ansible.builtin.copy": {"content": "{{ survey | to_json }}", "dest": "{{ playbook_dir }}/survey.json"},
                "delegate_to": "localhost",
                "connection": "local",
                "run_once": True,
            },
        ],
    },
    {
        "hosts": "gpu_nodes",
        "gather_facts": False,
        "tasks": [
            {"gpustead.cluster.receipt_check": {"inputs": "{{ survey.inputs }}"}, "register": "alone"},
            {
                "ansible.builtin.copy": {
                    "content": "{{ alone | to_json }}",
                    "dest": "{{ playbook_dir }}/{{ inventory_hostname }}.json",
                },
                "delegate_to": "localhost",
                "connection": "local",
            },
        ],
    },
]


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, folder / "notes"
        self.put("ssh", SSH.format(python=sys.executable, notes=str(self.notes)))
        self.put("sudo", SUDO)
        self.put("plays.yml", yaml.safe_dump(PLAYS))

    def put(self, name: str, content: str) -> None:
        (self.folder / name).write_text(content)
        (self.folder / name).chmod(0o755)

    def play(self, hosts: dict[str, dict[str, Any]], *args: str, **how: Any) -> subprocess.CompletedProcess[str]:
        common = {
            "ansible_ssh_executable": str(self.folder / "ssh"),
            "ansible_become_exe": str(self.folder / "sudo"),
            "ansible_python_interpreter": sys.executable,
            "ansible_pipelining": True,
            "cluster_state_dir": str(self.folder / "{{ inventory_hostname }}"),
        }
        self.put("hosts.yml", yaml.safe_dump({"gpu_nodes": {"hosts": hosts, "vars": common}}, sort_keys=False))
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts.yml", "plays.yml", *args],
            cwd=self.folder,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "ANSIBLE_LOCALHOST_WARNING": "false"},
            capture_output=True,
            text=True,
            check=False,
            **how,
        )

    def survey(self) -> Any:
        return json.loads((self.folder / "survey.json").read_text())

    def commands(self) -> Iterator[tuple[bool, str, list[str]]]:
        """(by the survey, address, arguments as they are the same in two runs) of each start of ssh."""
        for line in self.notes.read_text().splitlines():
            arguments = json.loads(line)
            arguments[-1] = re.sub(r"BECOME-SUCCESS-\w+", "BECOME-SUCCESS", arguments[-1])
            survey = "BatchMode=yes" in arguments
            if survey:
                at = arguments.index("BatchMode=yes")
                del arguments[at - 1 : at + 1]
            yield survey, arguments[-2], arguments


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


BECOME = {"ansible_become": True, "ansible_become_user": "{{ 'grace' }}"}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "address": {"ansible_host": "192.0.2.7", "ansible_port": 2200},
    "user": {"ansible_user": "{{ admin }}", "admin": "ada"},
    "key": {"ansible_ssh_private_key_file": "{{ inventory_dir }}/key"},
    "jump": {"ansible_ssh_common_args": "-o ProxyJump=login.example.org", "ansible_ssh_extra_args": "-v"},
    "sockets": {"ansible_control_path_dir": "/tmp/cp", "ansible_ssh_args": "-o ControlMaster=auto"},
    "become": {**BECOME, "ansible_user": "ada"},
    "become_flags": {**BECOME, "ansible_become_flags": "-n", "ansible_shell_executable": "/bin/dash"},
    "shell": {"ansible_connection": "ansible.builtin.ssh", "ansible_timeout": 33},
}


def test_the_survey_connects_as_ansible_does(site: Site) -> None:
    done = site.play(WAYS)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = list(site.commands())
    by_survey = {address: arguments for survey, address, arguments in commands if survey}
    by_ansible = {address: arguments for survey, address, arguments in commands if not survey}
    assert by_survey == by_ansible
    assert len(commands) == 2 * len(WAYS) == 2 * len(by_survey)
    assert site.survey()["unasked"] == []


def test_the_survey_finds_what_a_check_of_each_host_finds(site: Site) -> None:
    assert site.play({"one": {}, "two": {"receipt_host": "second", "base_packages": ["vim"]}}).returncode == 0
    survey = site.survey()
    assert survey["stale"] == ["one", "two"]
    assert [survey["hosts"][host]["host"] for host in ("one", "two")] == ["one", "second"]
    for host in ("one", "two"):
        alone = json.loads((site.folder / f"{host}.json").read_text())
        for part in ("findings", "left", "readable", "host", "state_dir", "partial"):
            assert survey["hosts"][host][part] == alone[part], part
        assert alone["findings"][0]["what"].startswith("it has not run here")
    assert survey["hosts"]["one"]["nonce"] != survey["hosts"]["two"]["nonce"]


@pytest.mark.parametrize(("args", "forced"), [([], False), (["-e", "site_force=true"], True)])
def test_a_forced_run_is_forced_for_each_host(site: Site, args: list[str], forced: bool) -> None:
    assert site.play({"one": {}, "two": {}}, *args).returncode == 0
    assert [result["force"] for result in site.survey()["hosts"].values()] == [forced, forced]


def test_what_is_not_to_be_asked_from_one_process_is_left_to_ansible(site: Site) -> None:
    """Each for itself: the others are asked, and Ansible's task then says what is wrong with whom."""
    hosts: dict[str, dict[str, Any]] = {
        "fine": {},
        "gone": {},
        "local": {"ansible_connection": "local"},
        "secret": {"ansible_password": "x", "ansible_connection": "ssh"},
        "broken": {"ansible_user": "{{ nobody_knows }}"},
        "unknown": {"ansible_become": True, "ansible_become_method": "community.general.nothing"},
        "sudo": {"ansible_become": True, "ansible_become_exe": "/nowhere/sudo"},
        "mute": {},
    }
    done = site.play(hosts)
    survey = site.survey()
    assert survey["unasked"] == ["gone", "local", "secret", "broken", "unknown"]
    assert not [address for by_survey, address, _ in site.commands() if by_survey and address == "secret"]
    assert survey["stale"] == ["fine", "sudo", "mute"]
    # As a host without Python: it answered, and not with receipts.
    assert [survey["hosts"][host]["readable"] for host in ("fine", "mute", "sudo")] == [True, False, False]
    assert "mute is stale:\n  accounts: host: The receipts could not be looked at: " in done.stdout
    counts = dict(
        re.findall(r"^(\w+) +: ok=\d+ +changed=\d+ +(unreachable=\d+ +failed=\d+)", done.stdout, re.MULTILINE)
    )
    assert {host for host, count in counts.items() if "unreachable=1" in count} == {"gone"}
    assert {host for host, count in counts.items() if "failed=1" in count} >= {"broken", "unknown"}
    assert (site.folder / "local.json").exists()


def test_the_run_goes_on_when_all_that_are_asked_one_by_one_fail(site: Site) -> None:
    """Ansible ends a run when all hosts of a play have failed; with the tasks of site.yml that is no play of theirs."""
    tasks, passing = ROOT / "playbooks/tasks", "{{{{ groups['{}'] | default(['all', '!all']) }}}}"
    telling = {"__site_to_run": True, "__site_force": False, "__site_group": "site_stale"}
    plays = [
        {"hosts": hosts, "gather_facts": False, "tasks": [{"ansible.builtin.import_tasks": str(file), "vars": telling}]}
        for hosts, file in [
            ("gpu_nodes", tasks / "survey.yml"),
            (passing.format("site_unasked"), tasks / "receipts.yml"),
            (passing.format("site_stale"), "goes_on.yml"),
        ]
    ]
    site.put("plays.yml", yaml.safe_dump(plays))
    site.put("goes_on.yml", yaml.safe_dump([{"ansible.builtin.debug": {"msg": "went on"}}]))
    done = site.play({"gone": {}, "fine": {}, "well": {}})
    assert done.returncode == 4, done.stdout
    assert "asked one by one next: gone\n" in done.stdout
    assert sorted(re.findall(r"^ok: \[(\w+)\] => \{\s+\"msg\": \"went on\"", done.stdout, re.MULTILINE)) == [
        "fine",
        "well",
    ]


def test_a_password_to_log_in_that_was_asked_for_is_ansibles(site: Site) -> None:
    (site.folder / "password").write_text("x\n")
    site.play({"one": {}, "two": {}}, "--connection-password-file=password")
    assert site.survey()["unasked"] == ["one", "two"]


ASKS = """#!{python}
# Takes the password as sudo -S, su and doas do: it asks on stderr, and reads one line and no byte more.
import os, sys
from pathlib import Path
words = sys.argv[1:]
shell = next(n for n, word in enumerate(words) if word.startswith("/bin/"))
with open({notes!r}, "a") as notes:
    notes.write("become " + " ".join(words[:shell]) + "\\n")
question = words[words.index("-p") + 1] if "-p" in words else "Password: "
if "-n" not in words:
    sys.stderr.write(question)
    sys.stderr.flush()
    said = b""
    while not said.endswith(b"\\n"):
        said += os.read(0, 1) or sys.exit(1)
    if said.decode().strip() not in {passwords!r}:
        sys.exit("Sorry, try again.")
# What su runs is one word.
os.execv("/bin/sh", ["sh", "-c", words[shell]] if " " in words[shell] else words[shell:])
"""
SUDO_ASKS: dict[str, Any] = {"ansible_become": True}
OWN = {**SUDO_ASKS, "ansible_become_password": "{{ 'hunter' ~ '3' }}"}


class Asking(Site):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.put(
            "sudo", ASKS.format(python=sys.executable, notes=f"{self.notes}.become", passwords=("hunter2", "hunter3"))
        )
        # Not executable: Ansible would run them.
        (folder / "password").write_text("hunter2\n")
        (folder / "wrong").write_text("hunter4\n")

    def ways(self) -> set[str]:
        """How root was asked for, without the marks that differ each time."""
        lines = Path(f"{self.notes}.become").read_text().splitlines()
        return {re.sub("key=[a-z]+", "key=", line) for line in lines}


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


SU = {"ansible_become_method": "su"}
FLAGS = {"ansible_become_flags": "-H -S -i", "ansible_become_user": "grace"}


def secret(done: subprocess.CompletedProcess[str], site: Asking) -> bool:
    """Whether no password stands in a command line, of either machine, or in what Ansible says."""
    return "hunter" not in "".join((done.stdout, done.stderr, site.notes.read_text(), *site.ways()))


def test_a_password_for_root_goes_to_the_hosts_question_alone(asking: Asking) -> None:
    """-K itself: nothing is left for Ansible, which would ask each host for itself."""
    hosts = {
        "one": SUDO_ASKS,
        "two": OWN,
        "three": {**SUDO_ASKS, **FLAGS},
        "four": {**SUDO_ASKS, **SU},
        "five": {**OWN, **SU},
    }
    with (asking.folder / "password").open() as answer:
        done = asking.play(hosts, "-K", "-vvvv", stdin=answer, start_new_session=True)
    assert asking.survey()["unasked"] == [], done.stdout + done.stderr
    assert all(of_host["readable"] for of_host in asking.survey()["hosts"].values())
    assert asking.ways() == {
        "become -H -S -p [sudo via ansible, key=] password: -u root",
        "become -H -S -i -p [sudo via ansible, key=] password: -u grace",
        "become root -c",
    }
    assert secret(done, asking)


@pytest.mark.parametrize(
    ("hosts", "file", "unasked"),
    [
        ({"one": {**SUDO_ASKS, "ansible_sudo_pass": "hunter3"}, "two": SUDO_ASKS, "three": OWN}, "password", ["two"]),
        ({"one": {**OWN, "ansible_become": False}, "two": SUDO_ASKS, "three": OWN}, "password", ["two"]),
        ({"one": SUDO_ASKS, "two": OWN}, "wrong", ["one"]),
    ],
    ids=["of the first alone", "of the first, which needs none", "a wrong one"],
)
def test_no_host_is_given_the_password_of_another(
    asking: Asking, hosts: dict[str, dict[str, Any]], file: str, unasked: list[str]
) -> None:
    done = asking.play(hosts, f"--become-password-file={file}")
    assert asking.survey()["unasked"] == unasked, done.stdout + done.stderr
    assert secret(done, asking)


def test_the_first_host_lends_the_others_nothing(site: Site) -> None:
    """The survey is a task of the first host; what is set for that one alone is not the others'."""
    shell = {"ansible_connection": "local", "ansible_shell_executable": "/bin/dash"}
    first = {"ansible_user": "ada", "ansible_port": 77, **shell, **BECOME}
    done = site.play({"first": first, "second": {}})
    assert done.returncode == 0, done.stdout + done.stderr
    commands = [arguments for survey, address, arguments in site.commands() if survey]
    assert [arguments[-2] for arguments in commands] == ["second"]
    assert "ada" not in str(commands)
    assert "Port=77" not in str(commands)
    assert "BECOME-SUCCESS" not in str(commands)
    assert "dash" not in str(commands)
    assert site.survey()["unasked"] == ["first"]
