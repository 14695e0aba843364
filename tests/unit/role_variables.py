"""What a role's variables say under given settings, as Ansible itself renders them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def variables(role: str) -> list[str]:
    """Names of the role's internal variables."""
    return list(yaml.safe_load((ROOT / "roles" / role / "vars/main.yml").read_text()))


def render(
    tmp_path: Path, role: str, names: Sequence[str], groups: Mapping[str, Sequence[str]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of the variables `names` of a role on host `a`, of an inventory with these groups.

    Args:
        settings: variables as given with -e: the user's, and what tasks would have registered.
    """
    play = {
        "hosts": "a",
        "gather_facts": False,
        "vars": {"role_path": str(ROOT / "roles" / role)},
        "vars_files": [str(ROOT / "roles" / role / part / "main.yml") for part in ("defaults", "vars")],
        "tasks": [
            {
                "ansible.builtin.copy": {"dest": str(tmp_path / "values.json"), "content": "{{ wanted | to_json }}"},
                "vars": {
                    "wanted": {name: f"{{{{ {name} }}}}" for name in names},
                    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                },
            }
        ],
    }
    inventory: dict[str, Any] = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in groups.items()}
    inventory["all"] = {"vars": {"ansible_connection": "local"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "vars.json").write_text(json.dumps(settings))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", f"{tmp_path}/hosts.yml", "-e", f"@{tmp_path}/vars.json", f"{tmp_path}/play.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    values: dict[str, Any] = json.loads((tmp_path / "values.json").read_text())
    return values
