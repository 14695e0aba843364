"""What roles workspace and ssh_mesh write on hosts and vouch for, held against what it has been: a change of it
recreates containers, or makes roles run again, on every node there is.

A case is a node: `settings` and what was `found` there, with what is `expected`, as roles before plans rendered it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CASES = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "tests/unit/fixtures/stacks").iterdir())}
USERS = [
    {
        "name": "ada",
        "uid": 1500,
        "gid": 1600,
        "ssh_keys": ["ssh-ed25519 AAAA1 ada@laptop", "ssh-ed25519 AAAA2 ada@desk"],
    },
    {"name": "bob", "uid": 1501, "ssh_keys": ["ssh-ed25519 AAAA4 bob"], "exclusive_keys": True},
    {"name": "carol", "uid": 1502, "ssh_keys": ["ssh-ed25519 AAAA5 carol"]},
]

PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    test_workspace: "{{ test_roles }}/workspace/templates"
  tasks:
    - {ansible.builtin.import_role: {name: gpustead.cluster.workspace}, tags: [never]}  # for its variables
    - {ansible.builtin.import_role: {name: gpustead.cluster.ssh_mesh}, tags: [never]}
    - ansible.builtin.include_vars: {file: "{{ test_roles }}/{{ item }}/meta/receipt.yml", name: "test_of_{{ item }}"}
      loop: [workspace, ssh_mesh]
    - ansible.builtin.include_tasks: one.yml
      loop: "{{ __workspace_all }}"
      loop_control: {loop_var: __workspace_instance}
    - ansible.builtin.copy: {content: "{{ values | to_json }}", dest: "{{ test_out }}/node.json", mode: "0600"}
      vars:
        __ssh_mesh_files_digest: x
        values:
          workspace:
            places: "{{ __workspace_plan.places }}"
            binds: "{{ __workspace_plan.binds }}"
            former_projects: "{{ __workspace_former_projects }}"
            former_files: "{{ __workspace_former_files }}"
            receipt: {reads: "{{ test_of_workspace.reads }}", outputs: "{{ test_of_workspace.outputs }}"}
          ssh_mesh:
            compose.yml: "{{ lookup('ansible.builtin.template', 'compose.yml.j2') }}"
            env: "{{ lookup('ansible.builtin.template', 'env.j2') }}"
            authorized_keys: "{{ lookup('ansible.builtin.template', 'authorized_keys.j2') }}"
            record: "{{ __ssh_mesh_plan.nas_layout[-1].content }}"
            first entries: "{{ __ssh_mesh_plan.nas_layout[:-1] }}"
            shared entries: "{{ __ssh_mesh_shared_entries + [__ssh_mesh_hostfile] }}"
            binds: "{{ __ssh_mesh_plan.places }}"
            drifted: "{{ __ssh_mesh_plan.recreate }}"
            receipt: {reads: "{{ test_of_ssh_mesh.reads }}", outputs: "{{ test_of_ssh_mesh.outputs }}"}
"""
ONE = """
- ansible.builtin.copy:
    content: "{{ values | to_json }}"
    dest: "{{ test_out }}/of_{{ test_owner }}.json"
    mode: "0600"
  vars:
    test_owner: "{{ __workspace_instance.owner }}"
    values:
      compose.yml: "{{ lookup('ansible.builtin.template', test_workspace ~ '/compose.yml.j2') }}"
      compose.local.yml: "{{ lookup('ansible.builtin.template', test_workspace ~ '/compose.local.yml.j2') }}"
      files: "{{ __workspace_instance.compose_files }}"
      project: "{{ __workspace_instance.project }}"
      refused: "{{ __workspace_containers.refused }}"
      drifted: "{{ __workspace_containers.recreate }}"
      uuids: "{{ __workspace_containers.gpus.uuids }}"
      links: "{{ __workspace_plan.nas_links[test_owner] }}"
"""


def registered(found: dict[str, Any]) -> dict[str, Any]:
    """What tasks of the roles would have registered."""
    receipt = {"previous": found.get("previous", []), "drifted": found.get("stale", [])}
    there: dict[str, Any] = {
        "image": "",
        "gpus": None,
        "infiniband": False,
        "machine_id": "0123456789abcdef",
        "held": [],
    }
    offer = {**there, "route": found.get("route", ""), **found.get("offer", {})}
    mounted: dict[str, Any] = {"refused": [], "missing": [], "replaced": []}
    return {
        **{"__workspace_begun": receipt, "__workspace_offer": offer, "__workspace_placed": found.get("placed", {})},
        "__workspace_mounted": {**mounted, **found.get("mounted", {})},
        **{"__ssh_mesh_begun": receipt, "__ssh_mesh_offer": offer},
        "__ssh_mesh_mounted": {**mounted, **found.get("mesh_mounted", {})},
        "__ssh_mesh_user_key_made": {"public": "ssh-ed25519 AAAAMESH bob@mesh"},
        "__ssh_mesh_authority": {"public": "ssh-ed25519 AAAACA ca", **found.get("authority", {})},
    }


def by_lines(value: Any) -> Any:
    """The same with texts of several lines as lists of these, as the cases have them to be read."""
    if isinstance(value, dict):
        return {key: by_lines(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [by_lines(inner) for inner in value]
    return value.splitlines(keepends=True) if isinstance(value, str) and "\n" in value else value


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one for each case: all are hosts of one run."""
    root = tmp_path_factory.mktemp("stacks")
    for name in ("templates", "files"):
        (root / name).symlink_to(ROOT / "roles/ssh_mesh" / name)
    hosts = {}
    for number, (case, given) in enumerate(CASES.items(), 1):
        (root / case).mkdir()
        place = {"test_out": str(root / case), "cluster_address": f"10.1.0.{number}"}
        hosts[case] = {**place, **given["settings"], **registered(given["found"])}
    variables = {
        **{"cluster_users": USERS, "cluster_ca_passphrase": "long enough for this", "test_roles": str(ROOT / "roles")}
    }
    (root / "hosts.json").write_text(json.dumps({"all": {"vars": variables}, "gpu_nodes": {"hosts": hosts}}))
    (root / "play.yml").write_text(PLAYBOOK)
    (root / "one.yml").write_text(ONE)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [ansible, "-i", root / "hosts.json", root / "play.yml"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_and_vouched_for(written: Path, case: str) -> None:
    found = json.loads((written / case / "node.json").read_text())
    found["owners"] = {
        path.stem.removeprefix("of_"): json.loads(path.read_text()) for path in (written / case).glob("of_*.json")
    }
    assert by_lines(found) == CASES[case]["expected"]
