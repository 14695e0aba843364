"""What role workspace writes on a node, written by Ansible itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KEYS = ["ssh-ed25519 AAAA1 ada@laptop", "ssh-ed25519 AAAA2 ada@desk"]
EXTRA = "ssh-ed25519 AAAA3 ada@phone"
TOKEN = "a-token-that-nobody-guesses"
SERVICES = {"jupyter", "tensorboard", "gradio", "ssh"}

# The tasks of the role that need no root, no NAS and no Docker.
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - ansible.builtin.include_role:
        name: gpustead.cluster.workspace
        tasks_from: "{{ item }}"
        public: true
      loop: [preflight.yml, observe.yml, ssh.yml]
    - ansible.builtin.template:
        src: "{{ test_template }}"
        dest: "{{ workspace_config_dir }}/compose.yml"
        mode: "0600"
"""


class Refused(Exception):
    """What the playbook said when it failed."""


def write(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    """The compose file that the role writes with these settings, read again."""
    variables = {
        "cluster_users": [{"name": "ada", "uid": 1500, "gid": 1600, "ssh_keys": KEYS}],
        "workspace_image": "registry.example.org/gpustead/workspace@sha256:0123",
        "workspace_config_dir": str(tmp_path / "workspace"),
        "test_template": str(ROOT / "roles/workspace/templates/compose.yml.j2"),
        "workspace_gpus_file": str(tmp_path / "gpus.json"),
        **settings,
    }
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "vars.json").write_text(json.dumps(variables))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [ansible, "-i", "localhost,", "-e", f"@{tmp_path}/vars.json", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    compose: dict[str, Any] = yaml.safe_load((tmp_path / "workspace/compose.yml").read_text())
    return compose


def published(service: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(port["host_ip"], port["published"], port["target"]) for port in service["ports"]}


def test_by_default(tmp_path: Path) -> None:
    services = write(tmp_path)["services"]
    assert set(services) == SERVICES
    assert published(services["jupyter"]) == {("0.0.0.0", "18888", 8888), ("::", "18888", 8888)}
    for service in services.values():
        assert service["environment"]["GPUSTEAD_UID"] == "1500"
        assert service["environment"]["GPUSTEAD_GID"] == "1600"
        assert {bind["target"] for bind in service["volumes"]} == {"/home/ada", "/shared", "/etc/gpustead/ssh"}
        assert not any(bind["bind"]["create_host_path"] for bind in service["volumes"])
        assert "deploy" not in service
    keys = (tmp_path / "workspace/ssh/authorized_keys").read_text().splitlines()
    assert keys[1:] == KEYS
    assert (tmp_path / "workspace/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_with_everything_set(tmp_path: Path) -> None:
    services = write(
        tmp_path,
        workspace_service_bind={"jupyter": ["127.0.0.1"]},
        workspace_mounts=[{"host": "/data/set", "path": "/dataset", "read_only": True}],
        workspace_environment={"PRICE": "5$ ${HOME}"},
        workspace_authorized_keys=[EXTRA, KEYS[0]],
        workspace_jupyter_token=TOKEN,
    )["services"]
    assert published(services["jupyter"]) == {("127.0.0.1", "18888", 8888)}
    assert published(services["ssh"]) == {("0.0.0.0", "10022", 22), ("::", "10022", 22)}
    for service in services.values():
        dataset = next(bind for bind in service["volumes"] if bind["target"] == "/dataset")
        assert (dataset["source"], dataset["read_only"]) == ("/data/set", True)
        assert service["environment"]["PRICE"] == "5$$ $${HOME}"  # as compose wants a $ written
    keys = (tmp_path / "workspace/ssh/authorized_keys").read_text().splitlines()
    assert keys[1:] == [*KEYS, EXTRA]
    assert TOKEN not in (tmp_path / "workspace/compose.yml").read_text()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a port published twice": (
        {"workspace_ports": {"jupyter": 18888, "tensorboard": 18888, "gradio": 17860, "ssh": 10022}},
        "published once",
    ),
    "a short token": ({"workspace_jupyter_token": "abc"}, "at least 16"),
    "a token with an end of line": ({"workspace_jupyter_token": TOKEN + "\n"}, "at least 16"),
    "two secrets": (
        {"workspace_jupyter_token": TOKEN, "workspace_jupyter_password_hash": "argon2:x"},
        "not both",
    ),
    "a password that is not hashed": ({"workspace_jupyter_password_hash": "correct horse"}, "argon2"),
    "an owner without an account": ({"workspace_owner": "bob"}, "'bob' is not an account"),
    "a path bound twice": ({"workspace_mounts": [{"host": "/x", "path": "/shared/"}]}, "are taken"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    settings, reason = REFUSED[case]
    with pytest.raises(Refused, match=reason):
        write(tmp_path, **settings)
    assert not (tmp_path / "workspace").exists()
