"""A run without changes is one exchange per host; what somebody changes behind our back is named, and healed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Lab
from support import STATE, logins, members, recap, receipts, roles_run, site, stale

ROLES = [
    *("accounts", "base", "binds", "docker", "firewall", "images", "nas", "nvidia", "registry", "ssh_mesh"),
    "workspace",
]

# What is done to a node, the role whose output it is, and the output.
TAMPERS: list[tuple[str, str, str]] = [
    ("echo >> $(ls /usr/local/share/ca-certificates/gpustead-*.crt | head -n 1)", "base", "tree /usr/local/share"),
    ("sed -i d /etc/ssl/certs/ca-certificates.crt", "base", "contains /etc/ssl/certs/ca-certificates.crt"),
    ("sed -i /glusterfs/s/noatime/atime/ /etc/fstab", "nas", "mount /mnt/nas"),
    ("usermod -u 1777 grace", "accounts", "user grace"),
    ("chmod 0666 /home/ada/.ssh/authorized_keys", "accounts", "lines /home/ada/.ssh/authorized_keys"),
    ("chmod 0644 /etc/docker/daemon.json", "docker", "file /etc/docker/daemon.json"),
    ("sed -i s/50m/60m/ /etc/docker/daemon.json", "docker", "json_keys /etc/docker/daemon.json"),
    ("systemctl -q disable docker.service", "docker", "unit docker.service"),
    ("echo >> /etc/gpustead/gpus.json", "nvidia", "file /etc/gpustead/gpus.json"),
    ("systemctl -q disable ufw", "firewall", "unit ufw.service"),
    ("iptables -I DOCKER-USER 1 -j ACCEPT", "firewall", "chain DOCKER-USER"),
    ("iptables -I DOCKER-USER 1 -i eth0 -j ACCEPT", "firewall", "openings ports"),
    ("ip6tables -D gpustead-forward 1", "firewall", "chain gpustead-forward"),
    ("iptables -D ufw-user-input 2", "firewall", "ufw_rules gpustead: "),
    ("sed -i '/-j DROP/d' /etc/ufw/after.rules", "firewall", "block /etc/ufw/after.rules"),
    ("rm /etc/docker/certs.d/*/ca.crt", "registry", "file /etc/docker/certs.d/"),
    ("chmod 0600 /etc/gpustead/image", "images", "file /etc/gpustead/image"),
    ("docker update --memory 3g --memory-swap 3g gpustead-workspace-gradio-1", "workspace", "container gpustead-work"),
    ("docker stop gpustead-workspace-tensorboard-1", "workspace", "container gpustead-workspace/tensorboard"),
    (
        "chmod 0644 /etc/gpustead/workspace/ssh/ssh_host_ed25519_key",
        "workspace",
        "file /etc/gpustead/workspace/ssh/ssh_h",
    ),
    ("rm /usr/local/bin/mesh-run", "ssh_mesh", "file /usr/local/bin/mesh-run"),
    ("echo x >> /etc/gpustead/ssh_mesh/compose.yml", "ssh_mesh", "file /etc/gpustead/ssh_mesh/compose.yml"),
]


@pytest.fixture(scope="module", autouse=True)
def converged(lab: Lab) -> Iterator[None]:
    """The tests before these have run parts alone and broken things: once whole, before and after."""
    site(lab)
    yield
    site(lab)


def test_nothing_to_do_is_one_task_and_one_login_for_each_host(lab: Lab, tmp_path: Path) -> None:
    hosts = members(lab)
    for host in hosts:
        host.check_output("true")  # our own connection stands
    before = {host.name: logins(host) for host in hosts}
    # Connections of its own, none of which stands.
    done = site(lab, environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path)})
    assert stale(done) == {}
    # One for the inventory and one for all hosts, with the first of which they are counted.
    assert list(recap(done).values()) == [2]
    assert f"{len(hosts)} of {len(hosts)} hosts are as their roles left them" in done
    assert {host.name: logins(host) - before[host.name] for host in hosts} == {host.name: 1 for host in hosts}


def test_drift_is_named_healed_and_gone(lab: Lab, tmp_path: Path) -> None:
    node, report = lab.nodes[1], tmp_path / "drift.json"
    before = receipts(node)
    for command, _, _ in TAMPERS:
        node.check_output(command)
    assert lab.playbook("playbooks/drift.yml", "-e", f"drift_report={report}").returncode == 2
    findings = json.loads(report.read_text())["findings"]
    assert {finding["host"] for finding in findings} == {node.name}
    for _, role, output in TAMPERS:
        assert [f for f in findings if f["role"] == role and f["subject"].startswith(output)], output
    others = [f for f in findings if not any(f["subject"].startswith(output) for _, _, output in TAMPERS)]
    assert [finding["subject"] for finding in others] == []

    healed = site(lab)
    assert {host for _, host in roles_run(healed)} == {node.name}
    after = receipts(node)
    assert {role: receipt["seen"] for role, receipt in after.items()} == {
        role: receipt["seen"] for role, receipt in before.items()
    }
    assert stale(site(lab)) == {}
    assert lab.playbook("playbooks/drift.yml", "-e", f"drift_report={report}").returncode == 0


def test_one_stale_role_runs_alone(lab: Lab) -> None:
    node = lab.nodes[-1]
    node.check_output("chmod 0600 /etc/gpustead/ssh_mesh/env")
    done = site(lab)
    assert stale(done) == {node.name: ["ssh_mesh: file /etc/gpustead/ssh_mesh/env: mode was 0644, is 0600"]}
    assert roles_run(done) == {("ssh_mesh", node.name)}


def drift(lab: Lab, report: Path, *args: str) -> list[dict[str, str]]:
    lab.playbook("playbooks/drift.yml", "-e", f"drift_report={report}", *args)
    findings: list[dict[str, str]] = json.loads(report.read_text())["findings"]
    return findings


def test_receipts_that_cannot_be_used_are_stale_and_no_error(lab: Lab, tmp_path: Path) -> None:
    damages = {
        "accounts": ("truncate -s 100 {}", "damaged"),
        "base": ("truncate -s 0 {}", "damaged"),
        "docker": ("""sed -i 's/"version": 1/"version": 7/' {}""", "version 7"),
        "nas": ("""sed -i 's/"machine": "/"machine": "0/' {}""", "another machine"),
        "registry": ("rm {} && mkdir {}", "cannot be read"),
        "images": ("cp firewall.json {}", "of role firewall"),
        "workspace": ("""sed -i 's/"host": "[^"]*/"host": "gpu77/' {}""", "is of gpu77"),
        "ssh_mesh": ("rm {}", "has not run here"),
    }
    node = lab.nodes[0]
    node.check_output(f"rm -rf /root/receipts && cp -a {STATE} /root/receipts")
    try:
        for role, (damage, _) in damages.items():
            node.check_output(f"cd {STATE} && " + damage.replace("{}", f"{role}.json"))
        findings = drift(lab, tmp_path / "drift.json")
    finally:
        node.check_output(f"rm -rf {STATE} && mv /root/receipts {STATE}")
    assert {(finding["host"], finding["role"]) for finding in findings} == {(node.name, role) for role in damages}
    for finding in findings:
        assert finding["subject"] == "receipt"
        assert damages[finding["role"]][1] in finding["what"]
    assert drift(lab, tmp_path / "drift.json") == []


def test_a_variable_makes_its_role_stale_and_no_other(lab: Lab, tmp_path: Path) -> None:
    told = {"docker_log_opts": {"max-size": "{{ site_log_size }}"}, "site_log_size": "70m", "site_unused": 1}
    findings = drift(lab, tmp_path / "drift.json", "-e", json.dumps(told))
    assert {finding["host"] for finding in findings} == {node.name for node in lab.nodes}
    assert {(finding["role"], finding["subject"], finding["what"]) for finding in findings} == {
        ("docker", "variable docker_log_opts", "new"),
        ("docker", "variable site_log_size", "new"),
    }


def test_part_of_a_run_leaves_no_receipt(lab: Lab) -> None:
    node = lab.nodes[0]
    site(lab, "--tags", "base", "--limit", node.name)
    assert sorted(receipts(node)) == [role for role in ROLES if role != "base"]
    (line,) = stale(site(lab, "--limit", node.name))[node.name]
    assert "was a part of it" in line
    assert sorted(receipts(node)) == ROLES
