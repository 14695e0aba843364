"""Role client for a user's machine, with host keys as playbooks/client.yml reads them, in a directory of the test."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


def slurped(text: str) -> dict[str, str]:
    return {"content": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def ssh_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("Host mine\n  HostName 192.0.2.1\n")
    (folder / "known_hosts").write_text("gpu01 ssh-ed25519 AAAAmine\n")
    return folder


def run(tmp_path: Path, ssh_dir: Path, **nodes: str) -> int:
    """Runs the role for nodes with these host keys; returns how much it changed."""
    hosts = {
        name: {
            "ansible_host": "192.0.2.11",
            "ansible_port": 2022,
            "__client_host_key": slurped(f"ssh-ed25519 {key} root@{name}\n"),
            "__client_workspace_keys": {
                "results": [{"item": "/etc/gpustead/workspace", **slurped(f"ssh-ed25519 {key}W workspace\n")}]
            },
        }
        for name, key in nodes.items()
    }
    variables = {"cluster_name": "lab", "cluster_users": [{"name": "ada", "uid": 1500}], "client_ssh_dir": str(ssh_dir)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"gpu_nodes": {"hosts": hosts}, "all": {"vars": variables}}))
    play = {"hosts": "localhost", "gather_facts": False, "roles": ["gpustead.cluster.client"]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [str(ANSIBLE), "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.findall(r"changed=(\d+)", done.stdout)[0])


def test_nodes_have_names_and_the_users_own_files_stay(tmp_path: Path, ssh_dir: Path) -> None:
    assert run(tmp_path, ssh_dir, gpu01="AAAAone", gpu02="AAAAtwo") > 0
    assert run(tmp_path, ssh_dir, gpu01="AAAAone", gpu02="AAAAtwo") == 0

    def option(host: str, name: str) -> str:
        out = subprocess.run(
            ["ssh", "-G", "-F", str(ssh_dir / "config"), host], capture_output=True, text=True, check=True
        )
        return next(line.split(" ", 1)[1] for line in out.stdout.splitlines() if line.startswith(f"{name} "))

    assert (option("gpu01", "port"), option("gpu01-workspace", "port")) == ("2022", "10022")
    assert option("gpu02", "user") == "ada"
    assert option("mine", "hostname") == "192.0.2.1"
    assert (ssh_dir / "known_hosts").read_text() == "gpu01 ssh-ed25519 AAAAmine\n"
    keys = (ssh_dir / "config.d/lab.known_hosts").read_text().split("\n")
    assert {"gpu01 ssh-ed25519 AAAAone", "gpu01-workspace ssh-ed25519 AAAAoneW"} <= {*keys}
    assert option("gpu01", "userknownhostsfile") == str(ssh_dir / "config.d/lab.known_hosts")
    assert option("gpu01", "stricthostkeychecking") == "true"


def test_a_new_key_takes_the_place_of_the_old_one(tmp_path: Path, ssh_dir: Path) -> None:
    run(tmp_path, ssh_dir, gpu01="AAAAone")
    assert run(tmp_path, ssh_dir, gpu01="AAAAnew") == 1
    text = (ssh_dir / "config.d/lab.known_hosts").read_text()
    assert "AAAAnew" in text
    assert "AAAAone" not in text
