"""What must hold for every role: its defaults, its argument spec, its size, and what the site may set."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
GROUP_VARS = sorted((ROOT / "group_vars" / "all").glob("*.yml"))
# The lab is no part of a site: playbooks/lab.yml is where it is described.
SITE_ROLES = [role for role in ROLES if role != "lab"]
# A user's machine is no host of the cluster.
RECEIPT_ROLES = [role for role in SITE_ROLES if role != "client"]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml") or {}


def task_files(role: str) -> list[Path]:
    folders = (ROOT / "roles" / role / name for name in ("tasks", "handlers"))
    return sorted(path for folder in folders for path in folder.glob("**/*.yml"))


def role_text(role: str) -> str:
    files = (path for path in (ROOT / "roles" / role).rglob("*") if path.is_file())
    return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_refuses_an_account_for_what_another_reads_of_it(role: str) -> None:
    main = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    accounts = {name: option for name, option in main.get("options", {}).items() if name.endswith("_users")}
    assert [name for name, option in accounts.items() if "options" in option] == []


@pytest.mark.parametrize("role", ROLES)
def test_public_variables_carry_the_name_of_the_role(role: str) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_has_a_readme(role: str) -> None:
    assert (ROOT / "roles" / role / "README.md").read_text().startswith("# ")


def tasks_in_order(role: str, file: str = "main.yml") -> list[dict[str, Any]]:
    """Those of a role, with those that it imports in their places."""
    tasks: list[dict[str, Any]] = []
    for task in load(ROOT / "roles" / role / "tasks" / file):
        imported = task.get("ansible.builtin.import_tasks")
        tasks += tasks_in_order(role, imported) if imported else [task]
    return tasks


@pytest.mark.parametrize("role", ["workspace", "ssh_mesh"])
def test_the_plan_refuses_a_node_before_it_is_changed(role: str) -> None:
    """Ansible renders it where a task names it first: no image, or a port that somebody has, is refused there."""
    tasks = tasks_in_order(role)
    looked = next(number for number, task in enumerate(tasks) if task.get("register") == f"__{role}_offer")
    first = tasks[looked + 1]
    arguments = [value for name, value in first.items() if name.startswith("gpustead.cluster.")]
    assert f"__{role}_plan." in str([first.get("when", "").partition(" and ")[0], *arguments])
    assert not first.get("run_once"), "one node that is refused must not keep the others from it"


# Given to a role by the play that includes it.
OF_THE_PLAY = {"__receipts"}
DEFINES = re.compile(
    r"^\s*(?:- )?(__\w+):|(?:register|loop_var|index_var): (__\w+)|{%-? *(?:set|for) (__\w+)", re.MULTILINE
)


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_names_of_its_own_is_there(role: str) -> None:
    files = [path for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")]
    text = "\n".join(path.read_text() for path in files)
    defined = {name for names in DEFINES.findall(text) for name in names if name}
    assert set(re.findall(r"\b__[a-z]\w+\b", text)) - defined - OF_THE_PLAY == set()


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_reads_of_its_plans_is_in_them(role: str) -> None:
    files = [path for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")]
    text = "\n".join(path.read_text() for path in files)
    for variable, name in set(re.findall(r"(__\w+): [^\n]*gpustead\.cluster\.(\w+_plan)\b", text)):
        source = (ROOT / "plugins" / "filter" / f"{name}.py").read_text()
        documented = set(re.findall(r"\w+", source.partition('RETURN = r"""')[2].partition('"""')[0]))
        assert set(re.findall(rf"{variable}\.(\w+)", text)) - documented == set(), variable


@pytest.mark.parametrize("role", ROLES)
def test_task_files_are_short(role: str) -> None:
    limits = {path: 40 if path.parts[-2:] == ("tasks", "main.yml") else 60 for path in task_files(role)}
    lengths = {path: len(path.read_text().splitlines()) for path in limits}
    assert {path.name: lengths[path] for path in limits if lengths[path] > limits[path]} == {}


@pytest.mark.parametrize("role", ROLES)
def test_no_run_warns_of_keys_given_twice(role: str) -> None:
    """Ansible calls each key beside a YAML merge ("<<") a duplicate, at every run; module_defaults have none."""
    assert [path.name for path in task_files(role) if re.search(r"^\s+<<:", path.read_text(), re.MULTILINE)] == []


@pytest.mark.parametrize("role", ROLES)
def test_errors_and_host_keys_are_not_ignored(role: str) -> None:
    forbidden = r"ignore_errors|failed_when: false|StrictHostKeyChecking[ =](no|off)"
    assert re.findall(forbidden, role_text(role), re.IGNORECASE) == []


@pytest.mark.parametrize("role", SITE_ROLES)
def test_apt_waits_for_others_that_are_at_it(role: str) -> None:
    """A new machine upgrades itself for minutes (unattended-upgrades), and 60 seconds are Ansible's default: ansible
    25414, 51663 and 76411, scylla-ansible-roles 484."""
    tasks = [task for path in task_files(role) for task in load(path) if "ansible.builtin.apt" in task]
    assert [task["name"] for task in tasks if task["ansible.builtin.apt"].get("lock_timeout") != 300] == []


@pytest.mark.parametrize("role", ROLES)
def test_what_is_done_once_is_done_on_the_controller(role: str) -> None:
    """A task that is run once and fails ends the run for all hosts: it must not be one host's failure."""
    tasks = [task for path in task_files(role) for task in load(path) if task.get("run_once")]
    on_hosts = [
        task for task in tasks if task.get("delegate_to") != "localhost" and "ansible.builtin.debug" not in task
    ]
    assert on_hosts == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_another_roles_variables(role: str) -> None:
    others = {name for other in ROLES if other != role for name in defaults(other)} - set(defaults(role))
    words = set(re.findall(r"\b[a-z]\w+", "\n".join(path.read_text() for path in task_files(role))))
    assert words & others == set()


def test_who_may_read_a_file_is_part_of_a_receipt_where_its_contents_are() -> None:
    """These kinds look at what a file says; that it is world-readable, or nobody's, only `file` sees."""
    receipts = [load(ROOT / "roles" / role / "meta" / "receipt.yml")["outputs"] for role in RECEIPT_ROLES]

    def names(*kinds: str) -> set[str]:
        subjects = [subject for outputs in receipts for kind in kinds for subject in outputs.get(kind, [])]
        return {subject["name"] for subject in subjects if isinstance(subject, dict)}

    assert len(names("json_keys", "certificate", "contains")) >= 5
    assert sorted(names("json_keys", "certificate", "contains") - names("file")) == []


WITH_HANDLERS = [role for role in ROLES if (ROOT / "roles" / role / "handlers").is_dir()]
# Role nvidia asks Docker what it has taken over.
ASKED = {"Reload Docker for its GPUs", "Restart Docker for its GPUs"}


@pytest.mark.parametrize("role", WITH_HANDLERS)
def test_what_a_killed_run_had_notified_is_notified_again(role: str) -> None:
    tasks = [task for path in task_files(role) for task in load(path)]
    notified: set[str] = set()
    for task in tasks:
        if "unfinished" in f"{task.get('changed_when')} {task.get('when')}":
            names = task["notify"]
            notified |= {names} if isinstance(names, str) else set(names)
    handlers = {handler["name"] for handler in load(ROOT / "roles" / role / "handlers" / "main.yml")}
    assert notified == handlers - ASKED


@pytest.mark.parametrize("path", GROUP_VARS, ids=lambda path: path.name)
def test_group_vars_set_nothing(path: Path) -> None:
    # They would beat the group_vars/all of the user's own inventory.
    assert load(path) is None


def commented(path: Path) -> Any:
    # Prose stands behind "##", a setting behind "#".
    return yaml.safe_load("\n".join(re.findall(r"^# (.*)$", path.read_text(), re.MULTILINE)))


@pytest.mark.parametrize("role", SITE_ROLES)
def test_group_vars_document_what_the_role_shares_with_others(role: str) -> None:
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text()
    shared = set(re.findall(r"\bcluster_\w+", text))
    assert shared - set(commented(ROOT / "group_vars" / "all" / "cluster.yml")) == set()


NAMED = re.compile(r"""(?:(?:include|import)_tasks|tasks_from): *["']?([^"'\n][^\n]*?)["']?$""", re.MULTILINE)
TASKS = [*(path for role in ROLES for path in task_files(role)), *(ROOT / "playbooks").rglob("*.yml")]
INCLUDED = {re.sub(r"\{\{.*?\}\}", "*", name) for path in TASKS for name in NAMED.findall(path.read_text())}


@pytest.mark.parametrize("role", ROLES)
def test_each_file_of_tasks_is_included_somewhere(role: str) -> None:
    """One that a merge has left out would be looked at by every other check, and never run."""
    files = [path for path in (ROOT / "roles" / role / "tasks").glob("*.yml") if path.name != "main.yml"]
    lost = [path.name for path in files if not any(fnmatch(path.name, name) or path.stem == name for name in INCLUDED)]
    assert lost == []
