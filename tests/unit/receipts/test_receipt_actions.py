"""The actions as Ansible runs them, on this machine alone: a role of a test's own stands in for role base."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHECKED = "{{ __checked | default({'state_dir': state}) }}"
BEGIN = {"gpustead.cluster.receipt_write": {"state": "begun", "checked": CHECKED}, "register": "__begun"}
END = {"gpustead.cluster.receipt_write": {"checked": CHECKED}}
CHECK = [
    {"gpustead.cluster.receipt_survey": None, "register": "__survey", "run_once": True},
    {"gpustead.cluster.receipt_check": {"inputs": "{{ __survey.inputs }}"}, "register": "__checked"},
    {
        "ansible.builtin.copy": {
            "content": "{{ __checked.findings | selectattr('role', 'equalto', 'base') | map(attribute='subject') }}",
            "dest": "{{ state }}/found",
        }
    },
]
MAKE = {"ansible.builtin.copy": {"content": "", "dest": "{{ state }}/made"}, "register": "__made"}


class Site:
    """A playbook that checks receipts and runs a role called base, and what the host's directory holds then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir()
        self.role([BEGIN, MAKE, END], ["{{ state }}/made"])

    def put(self, name: str, content: Any) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def role(self, tasks: list[Any], outputs: list[Any]) -> None:
        self.put("roles/base/tasks/main.yml", tasks)
        self.put("roles/base/meta/receipt.yml", {"groups": ["gpu_nodes"], "outputs": {"file": outputs}})

    def play(
        self, *args: str, check: bool = True, run: bool = True, before: list[Any] | None = None, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        self.put(
            "hosts.yml",
            {
                "gpu_nodes": {
                    "hosts": {"one": {"state": str(self.state), "cluster_state_dir": "{{ state }}", **variables}}
                }
            },
        )
        plays = [{"hosts": "gpu_nodes", "gather_facts": False, "tasks": CHECK}] * check
        ours = {"ansible.builtin.import_role": {"name": "base"}}
        plays += [{"hosts": "gpu_nodes", "gather_facts": False, "tasks": [*(before or []), ours]}] * run
        self.put("plays.yml", plays)
        if not (self.folder / "site.yml").exists():
            self.put("site.yml", [{"ansible.builtin.import_playbook": "plays.yml"}])
        program = Path(sys.executable).with_name("ansible-playbook")
        environment = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "ANSIBLE_LOCALHOST_WARNING": "false"}
        return subprocess.run(
            [
                program,
                "-i",
                "hosts.yml",
                "-c",
                "local",
                "-e",
                f"ansible_python_interpreter={sys.executable}",
                "site.yml",
                *args,
            ],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def stale(self, **variables: Any) -> list[str]:
        """Why role base would run."""
        done = self.play(run=False, **variables)
        assert done.returncode == 0, done.stdout
        found: list[str] = yaml.safe_load((self.state / "found").read_text())
        return found

    def run(self) -> Any:
        return json.loads((self.state / "receipts/base.run").read_text())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_a_dying_run_was_to_leave_is_noted_as_far_as_it_is_known(site: Site) -> None:
    fail = {"ansible.builtin.fail": None, "when": "dies"}
    site.role([BEGIN, MAKE, fail, END], ["{{ state }}/made", "{{ __made.dest }}.too"])
    assert site.play(check=False, dies=True).returncode == 2
    run = site.run()
    assert [subject["name"] for _, subject in run["outputs"]] == [f"{site.state}/made"]
    assert not run["ended"]
    assert site.play(check=False, dies=False).returncode == 0
    run = site.run()
    assert [subject["name"] for _, subject in run["outputs"]] == [f"{site.state}/made", f"{site.state}/made.too"]
    assert run["ended"]


def test_a_role_that_has_ended_is_fresh_until_a_variable_changes(site: Site) -> None:
    """Also one given by a play, and one that is read from elsewhere."""
    site.put("files/acl", "one")
    site.put("plays.yml", [])
    imported = {"ansible.builtin.import_playbook": "plays.yml", "vars": {"base_proxy_env": {"no_proxy": "a"}}}
    site.put("site.yml", [imported])
    packages = ["{{ lookup('file', 'acl') }}", "{{ groups['all'] | length }} {{ group_names | join }}"]
    assert site.play(base_packages=packages).returncode == 0
    assert site.stale(base_packages=packages) == []
    site.put("files/acl", "two")
    imported["vars"] = {"base_proxy_env": {"no_proxy": "b"}}
    site.put("site.yml", [imported])
    assert site.stale(base_packages=packages) == ["variable base_packages", "variable base_proxy_env"]
    (site.folder / "files/acl").unlink()
    done = site.play(run=False, base_packages=packages)
    assert done.returncode == 2
    assert "base_packages of one: expected a value" in done.stdout


def test_what_an_account_has_done_to_its_own_fails_no_role(site: Site) -> None:
    end = {"gpustead.cluster.receipt_write": {"checked": CHECKED}, "register": "__left"}
    later = {"ansible.builtin.copy": {"content": "{{ __left.refused | first }}", "dest": "{{ state }}/later"}}
    own = [{"name": "{{ state }}/gone", "account": "zoe"}]
    site.role([BEGIN, MAKE, end, later], ["{{ state }}/made", own])
    done = site.play()
    assert done.returncode == 0, done.stdout
    assert (site.state / "later").read_text().startswith(f"base: zoe: file {site.state}/gone: it is not there")
    assert not (site.state / "receipts/base.json").exists()
    assert site.stale() == ["zoe"]


REFUSED = [{"name": "zoe", "what": "uid 1 is bob's\x1b[2J", "expected": "nobody's", "remedy": "Choose another."}]
TOLD = "zoe: uid 1 is bob's\\x1b[2J: expected nobody's. Choose another."


def test_what_a_role_had_to_leave_undone_stands_in_the_place_of_a_receipt(site: Site) -> None:
    end = {"gpustead.cluster.receipt_write": {"checked": CHECKED, "refused": "{{ refused }}"}, "register": "__left"}
    later = {"ansible.builtin.copy": {"content": "{{ __left.refused | first }}", "dest": "{{ state }}/later"}}
    site.role([BEGIN, MAKE, end, later], ["{{ state }}/made"])
    done = site.play(refused=REFUSED)
    assert done.returncode == 0, done.stdout
    assert (site.state / "later").read_text() == f"base: {TOLD}"
    assert not (site.state / "receipts/base.json").exists()
    assert site.stale(refused=REFUSED) == ["zoe"]
    done = site.play(check=False, refused=REFUSED)  # nobody will look later
    assert done.returncode == 2 and "Role base has left undone" in done.stdout
    assert site.play(refused=[]).returncode == 2  # `later` has nothing to say
    assert site.stale(refused=[]) == []


AT_ONCE = {
    "gpustead.cluster.receipt_write": {"state": "begun", "roles": ["base", "binds"], "checked": "{{ __checked }}"},
    "register": "__checked",
}
# As role base has it, and what was found when it began.
BEGIN_ALONE = {**BEGIN, "when": "(__checked.begun.base | default({})).unfinished | default(true)"}
TELL = {
    "ansible.builtin.copy": {
        "content": "{{ [__begun is skipped, (__checked.begun.base | default(__begun)).unfinished] }}",
        "dest": "{{ state }}/told",
    }
}


def test_roles_begin_at_once_and_not_again(site: Site) -> None:
    site.role([BEGIN_ALONE, TELL, MAKE, {"ansible.builtin.fail": None, "when": "dies"}, END], ["{{ state }}/made"])

    def play(number: int, dies: bool = False) -> Any:
        done = site.play(before=[AT_ONCE], dies=dies, base_proxy_env={"no_proxy": str(number)})
        assert done.returncode == (2 if dies else 0), done.stdout
        return yaml.safe_load((site.state / "told").read_text())

    assert play(1) == [True, False]
    assert site.stale(dies=False, base_proxy_env={"no_proxy": "1"}) == []
    assert not (site.state / "receipts/base.run").exists() and (site.state / "receipts/binds.run").exists()
    assert play(2, dies=True) == [True, False]
    # What the role had notified is notified again, by its own task.
    assert play(2) == [False, True]
    assert play(3) == [True, False]


def test_a_run_of_some_tasks_begins_no_role_that_it_does_not_run(site: Site) -> None:
    site.role([BEGIN_ALONE, TELL, MAKE, END], ["{{ state }}/made"])
    assert site.play("--skip-tags", "x", before=[AT_ONCE]).returncode == 0
    assert yaml.safe_load((site.state / "told").read_text()) == [False, False]
    assert site.run()["ended"] and not (site.state / "receipts/binds.run").exists()
