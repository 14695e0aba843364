# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the lookup says of other hosts is what the role itself sees on each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
LOOKUP = "lookup('gpustead.cluster.role_variables', *names, role='firewall', hosts=groups['all'])[inventory_hostname]"
PLAY = {
    "hosts": "all",
    "gather_facts": False,
    "vars": {"names": ["__firewall_declared", "firewall_ssh_port", "__firewall_plan"]},
    "tasks": [
        {"ansible.builtin.include_role": {"name": "gpustead.cluster.firewall", "tasks_from": "policy", "public": True}},
        {
            "ansible.builtin.assert": {"that": f"{LOOKUP} == dict(names | zip(q('vars', *names)))"},
        },
        {"ansible.builtin.assert": {"that": f"{LOOKUP}.firewall_ssh_port == port"}},
    ],
}
HOSTS = {
    "all": {"vars": {"cluster_network": ["10.1.0.0/24"], "cluster_clients": "{{ cluster_network }}"}},
    "gpu_nodes": {
        "hosts": {
            "a": {"ansible_port": 2200, "port": 2200},
            "b": {"firewall_enabled": False, "port": 22, "cluster_workspace_port_range": "19000:19999"},
        }
    },
    "registry_caches": {"hosts": {"c": {"cluster_registry_cache_port": 5999, "port": 22}}},
}


def test_it_says_what_the_role_sees(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(yaml.safe_dump([PLAY]))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
