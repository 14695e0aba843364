"""What roles take back: what their last receipt declares and their variables do not, and never a directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

# Ids of outputs, as in a receipt.
NAS = [
    "mount /mnt/nas",
    "mount /dataset/",
    "mount /scratch",
    "file /etc/systemd/system/docker.service.d/gpustead-nas.conf",
    "file /etc/exports.d/gpustead.exports",
    "file /export/brick",
    "gluster nas",
]
DOCKER = [
    "file /etc/docker/daemon.json",
    "file /etc/apt/keyrings/docker.asc",
    "file /etc/apt/sources.list.d/docker.sources",
]
REGISTRY = [
    "file /etc/docker/registry",
    "file /srv/images",
    "file /etc/docker/registry/config.yml",
    "file /etc/docker/registry/htpasswd",
    "certificate /etc/docker/registry/registry.crt",
    "file /etc/docker/certs.d/a:5000/ca.crt",
    "unit docker-registry.service",
    "container gpustead-registry/registry",
    "json_keys /root/.docker/config.json",
]


def former(tmp_path: Path, role: str, left: list[str], groups: dict[str, list[str]], **settings: Any) -> Any:
    """The role's variables named `__<role>_former_*` on host `a`, after a receipt with these outputs."""
    names = yaml.safe_load((ROOT / "roles" / role / "vars/main.yml").read_text())
    wanted = {name: f"{{{{ {name} }}}}" for name in names if name.startswith(f"__{role}_former_")}
    wanted.pop("__docker_former_users", None)
    previous = [[kind, {"name": name, "keys": [["auths", "a:5000"]]}] for kind, name in map(str.split, left)]
    play = {
        "hosts": "a",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles" / role / part / "main.yml") for part in ("defaults", "vars")],
        "tasks": [
            {
                "ansible.builtin.copy": {"dest": str(tmp_path / "former.json"), "content": "{{ wanted | to_json }}"},
                "vars": {"wanted": wanted, "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            }
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    inventory: dict[str, Any] = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in groups.items()}
    inventory["all"] = {"vars": {"ansible_connection": "local"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "vars.json").write_text(json.dumps({f"__{role}_receipt": {"previous": previous}, **settings}))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", f"{tmp_path}/hosts.yml", "-e", f"@{tmp_path}/vars.json", f"{tmp_path}/play.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "former.json").read_text())
    return {
        name.removeprefix(f"__{role}_former_"): sorted(value) if isinstance(value, list) else value
        for name, value in found.items()
    }


def test_nothing_of_what_is_declared(tmp_path: Path) -> None:
    groups = {"gpu_nodes": ["a"], "nas_server": ["a"], "registry": ["a"]}
    mounts = [{"path": "/dataset", "source": "x:/d"}, {"path": "/scratch", "source": "x:/s"}]
    nas = former(tmp_path, "nas", NAS, groups, nas_source="x:/y", nas_extra_mounts=mounts, nas_server_backend="nfs4")
    assert nas == {"mounts": [], "files": [], "volumes": ["nas"]}
    assert former(tmp_path, "docker", DOCKER, groups) == {"files": []}
    left = [name for name in REGISTRY if not name.startswith("container ")]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "registry_ca.crt").touch()
    assert former(tmp_path, "registry", left, groups, registry_secrets_dir=str(secrets)) == {
        "service": False,
        "container": False,
        "files": [],
        "logins": [],
    }


def test_a_mount(tmp_path: Path) -> None:
    mounts = [{"path": "/dataset", "source": "x:/d"}]
    found = former(tmp_path, "nas", NAS, {"gpu_nodes": ["a"]}, nas_source="x:/y", nas_extra_mounts=mounts)
    assert found["mounts"] == ["/scratch"]


def test_a_nas_server_that_is_a_node_alone_now(tmp_path: Path) -> None:
    found = former(tmp_path, "nas", NAS, {"gpu_nodes": ["a"], "nas_server": []}, nas_source="x:/y")
    assert (found["files"], found["volumes"]) == (["/etc/exports.d/gpustead.exports"], ["nas"])


def test_the_repository_of_another_source(tmp_path: Path) -> None:
    found = former(tmp_path, "docker", DOCKER, {"gpu_nodes": ["a"]}, docker_source="distribution")
    assert found["files"] == ["/etc/apt/keyrings/docker.asc", "/etc/apt/sources.list.d/docker.sources"]


def test_a_registry_that_is_a_node_of_another_one_now(tmp_path: Path) -> None:
    found = former(tmp_path, "registry", REGISTRY, {"gpu_nodes": ["a"], "registry": ["b"]})
    assert found == {
        "service": True,
        "container": True,
        "files": [
            "/etc/docker/certs.d/a:5000/ca.crt",
            "/etc/docker/registry/config.yml",
            "/etc/docker/registry/htpasswd",
            "/etc/docker/registry/registry.crt",
        ],
        "logins": ["a:5000"],
    }
