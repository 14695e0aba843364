"""No task touches by its path what is not root's, and no receipt looks at it as root: see docs/security.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.tests.unit.foreign_paths import (
    PATHS,
    ROOT,
    Scope,
    Task,
    mentions,
    paths_of,
    read_tasks,
    scopes,
    strings,
)

# Roles that do not work as root on hosts of a cluster.
ELSEWHERE = {
    "client": "runs as the person whose machine it is",
    "lab": "runs on the machine of the lab, before there are accounts",
}
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir() and path.name not in ELSEWHERE)
PLAYBOOKS = [path for path in sorted((ROOT / "playbooks").rglob("*.yml")) if "group_vars" not in path.parts]
SCOPES = scopes(ROLES, PLAYBOOKS)

# Our modules that are given foreign paths, or what lay at such: each goes through as_account, or opens none.
OURS = {
    "authorized_keys": "each file as its account",
    "binds": "opened without a link, and what was opened is mounted",
    "compose_project": "no path of theirs: it is given UUIDs out of the plan, and asks Docker",
    "host_files": "refuses a path on which others than root can change a directory",
    "image_squash": "as the account that the directory on the share belongs to; else in a directory of root's",
    "lease": "as the account that owns the layout of the share",
    "local_place": "in a directory that only root enters; what lies in an account's, and in its home, as the account",
    "mesh_share": "as the owner of each entry, and of the key; the records as the account that owns them",
    "nas_files": "as the owner of each entry",
    "node_drain": "as the account that owns the layout of the share",
    "node_removal": "as the account that owns the layout of the share",
    "node_offer_info": "no path of theirs: files that roles left for containers, and ports out of the plan",
    "node_verify": "each file as who may read it",
    "share_read_info": "as the account that is named",
    "uid_match": "through descriptors alone, each id from the descriptor that it is given to",
}

# Tasks that root does by path all the same: where no directory on the way, nor the last name, is anybody's but root's.
MOUNTED = "a mountpoint: its name lies in directories of root's, and what is mounted there is not looked into"
EXPORT = "the top of the export, on the NAS itself: its name lies in a directory of root's"
OWN = "the role's own files in /etc: no plan takes back others"
VOLUME = "no path: the name and the options of a volume"
ASKED = "whether there is a home of who logs in, and root may write there: nothing is opened"
BY_ROOT: dict[tuple[str, str], str] = {
    ("playbooks/preflight_hosts.yml", "Ask each host what it is"): ASKED,
    ("roles/nas/tasks/client.yml", "Protect the bare mountpoints"): MOUNTED,
    ("roles/nas/tasks/client.yml", "Mount the shares"): MOUNTED,
    ("roles/nas/tasks/quotas.yml", "Limit what each account has on the share"): EXPORT,
    ("roles/nas/tasks/retire.yml", "Look for the timers no longer declared"): OWN,
    ("roles/nas/tasks/retire.yml", "Remove the files no longer declared"): OWN,
    ("roles/nas/tasks/retire_mounts.yml", "Unmount the former mounts, and take them out of fstab"): MOUNTED,
    ("roles/nas/tasks/retire_volumes.yml", "Read the state of the former volumes"): VOLUME,
    ("roles/nas/tasks/server_glusterfs_volume.yml", "Create the volume"): EXPORT,
    ("roles/nas/tasks/server_glusterfs_volume.yml", "Set the options of the volume"): VOLUME,
}

# Programs that a task runs in a container: what they print is not capped.
SPEAKERS = {"exec", "logs", "attach", "run", "cp"}
CASES = [pytest.param(scope, task, id=f"{task.file}-{task.name}") for scope in SCOPES.values() for task in scope.tasks]


def foreign(scope: Scope, task: Task) -> list[str]:
    return [] if task.here else [str(place) for place in paths_of(task) if scope.foreign(place, task)]


@pytest.mark.parametrize(("scope", "task"), CASES)
def test_no_task_touches_by_path_what_is_not_roots(scope: Scope, task: Task) -> None:
    own = task.module.rpartition(".")[2] if task.module.startswith("gpustead.cluster.") else ""
    assert own or task.module in PATHS, f"{task.module}: say in foreign_paths.PATHS which arguments are paths"
    found = foreign(scope, task)
    allowed = (task.file, task.name) in BY_ROOT or own in OURS
    assert allowed or not found, f"{task.file}: {task.name!r} has root touch {found}: go through as_account"


@pytest.mark.parametrize(("scope", "task"), CASES)
def test_no_task_takes_in_what_a_container_prints(scope: Scope, task: Task) -> None:
    words = [word for text in strings(task.arguments) for word in text.split()]
    asks = task.module.endswith("docker_container_exec") or ("docker" in words[:1] and SPEAKERS & set(words[1:4]))
    assert task.here or not asks, (
        f"{task.file}: {task.name!r}: ask through a module of ours, which caps what comes back"
    )


def test_what_root_does_by_path_is_still_there() -> None:
    """An exception that nothing needs any more would let the next one pass."""
    needed = {(task.file, task.name) for scope in SCOPES.values() for task in scope.tasks if foreign(scope, task)}
    assert sorted(set(BY_ROOT) - needed) == []


def test_our_modules_with_foreign_paths_are_still_there() -> None:
    found = {
        task.module.rpartition(".")[2] for scope in SCOPES.values() for task in scope.tasks if foreign(scope, task)
    }
    assert sorted(set(OURS) - found) == []


# Kinds of things in a receipt that are files.
AT_A_PATH = {"file", "apt_source", "apt_key", "tree", "block", "json_keys", "lines", "contains", "certificate"}


def subjects(role: str) -> list[tuple[str, Any]]:
    receipt = ROOT / "roles" / role / "meta/receipt.yml"
    content = yaml.safe_load(receipt.read_text()) if receipt.exists() else {}
    parts = (content.get(part) or {} for part in ("reads", "outputs"))
    return [(kind, subject) for part in parts for kind in part if kind in AT_A_PATH for subject in part[kind]]


def made_of(scope: Scope, text: str) -> list[str]:
    """The texts that an expression is made of, through variables, that say a foreign path by themselves."""
    seen: set[str] = set()
    found, ahead = [], [text]
    while ahead:
        one = ahead.pop()
        names, said = mentions(one)
        inner = [inner for name in names - seen for inner in strings(scope.definitions.get(name, []))]
        seen |= names
        ahead += inner
        # One that takes a foreign place and says what lies there, not the place alone.
        if said or any(scope.foreign("{{ " + name + " }}") for name in names):
            found.append(one)
    return found


# What root looks at itself, though its path says somebody else's: through no link, and not below it; and what a plan
# gives with its owner.
NAMED = "type, mode and owner of names that lie in directories that only root enters; copies that are root's"
OF_OWNERS = "each has `as`: tests/unit/accounts/test_accounts_plan.py"
AS_OWNER = "files on the share; the plan names as whom each is looked at, and its test holds that"
SEEN_BY_ROOT = {
    ("accounts", "{{ __accounts_plan.receipt.lines }}"): OF_OWNERS,
    ("accounts", "{{ __accounts_plan.receipt.file if __accounts_vouches_for_share else [] }}"): OF_OWNERS,
    ("nas", "{{ __nas_plan.receipt.file }}"): EXPORT,
    ("workspace", "{{ __workspace_plan.receipt.file }}"): NAMED,
    ("workspace", "{{ __workspace_plan.receipt.tree }}"): NAMED,
    ("workspace", "{{ __workspace_plan.receipt.shared }}"): AS_OWNER,
}


@pytest.mark.parametrize("role", ROLES)
def test_receipts_look_at_what_is_not_roots_as_its_owner(role: str) -> None:
    bare = []
    for kind, subject in subjects(role):
        place = (subject.get("path") or subject["name"]) if isinstance(subject, Mapping) else subject
        if not SCOPES[role].foreign(place) or (role, place) in SEEN_BY_ROOT:
            continue
        owned = (
            "as" in subject
            if isinstance(subject, Mapping)
            else any("'as'" in text for text in made_of(SCOPES[role], place))
        )
        bare += [] if owned else [f"{kind} {place}"]
    assert bare == []


# The analysis itself: what it must find, in tasks as somebody might write them.
FOUND = [
    "ansible.builtin.file: {path: '{{ item.home }}/.ssh', state: directory}",
    "ansible.builtin.file: {path: '~ada/x'}",
    "ansible.builtin.stat: {path: '{{ place }}/x'}\nvars: {place: '{{ other }}', other: /home/ada}",
    "ansible.builtin.copy: {dest: '{{ item }}', content: x}\nloop: [/etc/x, '{{ cluster_nas_path }}/x']",
    "ansible.builtin.copy: {dest: '{{ one }}', content: x}\nloop: [/mnt/nas/x]\nloop_control: {loop_var: one}",
    "ansible.builtin.command: cat /home/ada/x",
    "ansible.builtin.command: {argv: [cat, '{{ cluster_nas_path }}/x']}",
    "ansible.builtin.command: {cmd: 'true'}\nargs: {creates: /home/ada/x}",
    "ansible.builtin.file: path=/home/ada/x state=absent",
    "ansible.posix.authorized_key: {user: ada, key: x}",
    "ansible.builtin.find: {paths: ['{{ users | map(attribute=\"home\") | list }}']}",
    "block: [{ansible.builtin.slurp: {src: '{{ place }}'}}]\nvars: {place: /mnt/nas/x}",
    "gpustead.cluster.new: {where: /run/user/1500}",
    "somebody.else.module: {whatever: '{{ workspace_mounts }}'}",
]
NOT_FOUND = [
    "ansible.builtin.file: {path: /etc/x}",
    "ansible.builtin.copy: {dest: /etc/x, content: '{{ cluster_nas_path }}'}",
    "ansible.builtin.stat: {path: /home/ada/x}\ndelegate_to: localhost",
    "ansible.builtin.template: {src: x.j2, dest: '{{ place }}/x'}\nvars: {place: /etc/gpustead}",
    "ansible.builtin.command: {argv: [docker, ps, '--format={{ \"{{.Mounts}}\" }}']}",
]


@pytest.mark.parametrize(
    ("text", "expected"), [*((text, True) for text in FOUND), *((text, False) for text in NOT_FOUND)]
)
def test_a_foreign_path_is_found_however_it_is_written(text: str, expected: bool, tmp_path: Path) -> None:
    (task,) = read_tasks([{"name": "x", **yaml.safe_load(text)}], "x.yml", {})
    assert bool(foreign(Scope([]), task)) is expected


def test_what_is_found_at_a_foreign_path_is_foreign() -> None:
    text = """
    - {name: one, ansible.builtin.find: {paths: /home}, register: found}
    - {name: two, ansible.builtin.set_fact: {places: "{{ found.files | map(attribute='path') }}"}}
    - {name: three, ansible.builtin.include_tasks: x.yml, loop: "{{ places }}"}
    - {name: four, ansible.builtin.file: {path: "{{ item }}"}}
    """
    scope = Scope([])
    scope.tasks = list(read_tasks(yaml.safe_load(text), "x.yml", {}))
    assert foreign(scope, scope.tasks[3])
