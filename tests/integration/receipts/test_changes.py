"""What makes a role stale in the code, what goes with its declaration, and hosts and handlers that fail."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from support import PORTS, STATE, assert_fresh, converge, drift, members, receipts, roles_run, site, stale

ENV = "/etc/gpustead/ssh_mesh/env"
DROP_IN = "/etc/systemd/system/docker.service.d/zz-broken.conf"


@pytest.fixture(scope="module", autouse=True)
def _converged(lab: Lab) -> None:
    converge(lab)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the checkout, to be edited; without its clusters."""
    skip = shutil.ignore_patterns(".venv", ".git", ".cache", "reports", "__pycache__")

    def not_code(folder: str, names: list[str]) -> set[str]:
        clusters = {"inventory"} & {*names} if "plugins" not in Path(folder).parts else set()
        return skip(folder, names) | clusters

    return Path(shutil.copytree(PROJECT, tmp_path / "copy", symlinks=True, ignore=not_code))


def said(text: str) -> set[str]:
    """What the first check said, of any host."""
    return {line for lines in stale(text).values() for line in lines}


def run_copy(copy: Path, lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**plain_environment(), "ANSIBLE_NOCOLOR": "1"}
    command = ["ansible-playbook", "-i", str(lab.inventory), *args]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "role", "follow"),
    [
        ("roles/ssh_mesh/templates/compose.yml.j2", "ssh_mesh", []),
        ("roles/nas/tasks/client.yml", "nas", []),
        ("roles/images/tasks/pull.yml", "images", ["workspace", "ssh_mesh"]),
    ],
)
def test_a_file_of_a_role_makes_it_stale_and_no_other(
    lab: Lab, copy: Path, file: str, role: str, follow: list[str]
) -> None:
    path = copy / file
    path.write_text(path.read_text() + "\n# another line\n")
    done = run_copy(copy, lab, "site.yml", "--check")
    expected = {
        f"{role}: its file {file.split('/', 2)[2]}: changed",
        *(f"{name}: role {role}: runs again" for name in follow),
    }
    assert said(done.stdout) == expected, done.stdout + done.stderr


@pytest.mark.parametrize("file", ["modules/docker_daemon_config.py", "module_utils/accounts/uid_match.py"])
def test_a_plugin_makes_every_role_stale(lab: Lab, copy: Path, tmp_path: Path, file: str) -> None:
    path = copy / "plugins" / file
    path.write_text(path.read_text() + "\n# another line\n")
    report = tmp_path / "drift.json"
    done = run_copy(copy, lab, "playbooks/drift.yml", "-e", f"drift_report={report}")
    assert done.returncode == 2, done.stdout + done.stderr
    found = [(found["host"], found["role"], found["subject"]) for found in json.loads(report.read_text())["findings"]]
    assert sorted(found) == sorted(
        (host.name, role, "the collection's plugins") for host in members(lab) for role in receipts(host)
    )


def test_drift_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    look = f"find {STATE} -printf '%p %T@ %C@ %m\\n' | sort"
    before = {host.name: host.check_output(look) for host in members(lab)}
    assert drift(lab, tmp_path / "drift.json") == (0, set())
    assert {host.name: host.check_output(look) for host in members(lab)} == before


def test_a_firewall_rule_goes_with_its_declaration(lab: Lab) -> None:
    node = lab.nodes[1]
    more = {"firewall_extra_rules": [{"rule": "allow", "proto": "tcp", "to_port": "4711"}]}
    site(lab, "-e", json.dumps(more), "--limit", node.name)
    assert "4711" in node.check_output("ufw status; iptables -S ufw-user-input")
    site(lab, "--limit", node.name)
    assert "4711" not in node.check_output("ufw status; iptables -S ufw-user-input; cat /etc/ufw/user*.rules")


def test_a_published_port_goes_with_its_declaration(lab: Lab) -> None:
    node = lab.nodes[1]
    ports = {**PORTS, "jupyter": 18899}
    more = {"workspace_ports": ports, "firewall_published_ports": list(ports.values())}
    look = "ss -Hltn; iptables -S gpustead-forward; ufw status"
    site(lab, "-e", json.dumps(more), "--limit", node.name)
    assert "18899" in node.check_output(look)
    site(lab, "--limit", node.name)
    assert "18899" not in node.check_output(look)
    assert_fresh(lab)


def test_a_mount_goes_with_its_declaration(lab: Lab) -> None:
    node = lab.nodes[1]
    more = {"nas_extra_mounts": [{"path": "/mnt/more", "source": node.variables["nas_source"]}]}
    site(lab, "-e", json.dumps(more), "--limit", node.name)
    assert node.check_output("ls /mnt/more/users") == node.check_output("ls /mnt/nas/users")
    site(lab, "--limit", node.name)
    assert node.run("findmnt /mnt/more").rc != 0
    assert "/mnt/more" not in node.check_output("cat /etc/fstab")
    assert node.run("findmnt /mnt/nas").rc == 0
    assert_fresh(lab)
    # The mountpoint stays: who goes on writing there must not fill the host's disk unawares.
    assert node.run("touch /mnt/more/lost").rc != 0
    node.check_output("chattr -i /mnt/more; rmdir /mnt/more")


def unfinished(host: Host, role: str) -> bool:
    return bool(host.run(f"test -e {STATE}/{role}.run && ! test -e {STATE}/{role}.json").rc == 0)


def test_a_handler_that_fails_leaves_no_receipt(lab: Lab) -> None:
    node = lab.nodes[1]
    node.check_output(
        f"sed -i s/50m/60m/ /etc/docker/daemon.json && printf '[Service]\\nExecStartPre=/bin/false\\n' > {DROP_IN}"
        " && systemctl daemon-reload"
    )
    done = lab.playbook("site.yml", "--limit", node.name)
    left = unfinished(node, "docker")
    node.check_output(f"rm {DROP_IN} && systemctl daemon-reload && systemctl reset-failed docker.service")
    assert done.returncode == 2, done.stdout
    assert left
    site(lab)
    assert_fresh(lab)


def test_a_failing_host_does_not_stop_the_others(lab: Lab) -> None:
    well, ill = lab.nodes[:2]
    well.check_output(f"chmod 0600 {ENV}")
    ill.check_output(f"rm {ENV} && mkdir -p {ENV}/in-the-way")
    done = lab.playbook("site.yml")
    assert done.returncode == 2, done.stdout
    assert "ssh_mesh" in receipts(well)
    assert unfinished(ill, "ssh_mesh")
    ill.check_output(f"rm -r {ENV}")
    assert roles_run(site(lab)) == {("ssh_mesh", ill.name)}
    assert_fresh(lab)


@pytest.mark.parametrize("others_stale", [True, False])
def test_an_unreachable_host_does_not_stop_the_others(lab: Lab, tmp_path: Path, others_stale: bool) -> None:
    well, away = lab.nodes[:2]
    gone = tmp_path / "gone.yml"
    gone.write_text(
        json.dumps({"gpu_nodes": {"hosts": {away.name: {"ansible_ssh_extra_args": "-o ProxyCommand=false"}}}})
    )
    for host in [well, away] if others_stale else [away]:
        host.check_output(f"chmod 0600 {ENV}")
    done = lab.playbook("site.yml", inventories=[gone], environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path)})
    assert done.returncode == 4, done.stdout
    assert f"asked one by one next: {away.name}" in done.stdout
    assert re.search(rf"^{away.name} .*unreachable=1", done.stdout, re.MULTILINE)
    assert roles_run(done.stdout) == ({("ssh_mesh", well.name)} if others_stale else set())
    assert roles_run(site(lab)) == {("ssh_mesh", away.name)}
    assert_fresh(lab)
