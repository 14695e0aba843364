"""What the playbook refuses, in one line that names the value, and before the host is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Host, Lab
from support import PORTS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K someone"
REFUSED = {
    "two users with one uid": (
        {"cluster_users": [{"name": "ada", "uid": 1500, "ssh_keys": [KEY]}, {"name": "bob", "uid": 1500}]},
        r"1500.*(ada|bob)|(ada|bob).*1500",
    ),
    "a system id without saying so": ({"cluster_users": [{"name": "ada", "uid": 500}]}, r"500.*system"),
    "an empty NAS source": ({"nas_source": ""}, r"nas_source"),
    "a port published twice": (
        {"workspace_ports": {**PORTS, "tensorboard": 18888}},
        r"18888",
    ),
    "a passphrase that is missing": ({"cluster_ca_passphrase": ""}, r"cluster_ca_passphrase"),
}


def assert_refused(done_rc: int, output: str, pattern: str) -> None:
    assert done_rc != 0, output
    assert re.search(pattern, output), output
    changed = re.findall(r"changed=(\d+)", output)
    assert changed and set(changed) == {"0"}, output


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings(lab: Lab, tmp_path: Path, case: str) -> None:
    settings, pattern = REFUSED[case]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(settings))
    done = lab.playbook("site.yml", "-e", f"@{bad}")
    assert_refused(done.returncode, done.stdout + done.stderr, pattern)


def test_an_inventory_without_gpu_nodes(lab: Lab, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("nas_server: {hosts: {nas: {ansible_host: 192.0.2.1}}}\n")
    done = Lab(inventory, {}, {}).playbook("site.yml")
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert "gpu_nodes" in output


@pytest.fixture
def outsider_as_node(lab: Lab, tmp_path: Path) -> Path:
    extra = tmp_path / "extra.yml"
    extra.write_text("gpu_nodes: {hosts: {outsider: {cluster_address: outsider}}}\n")
    return extra


def assert_outsider_refused(lab: Lab, inventory: Path, pattern: str) -> None:
    """It is left as it is, and the run goes on without it."""
    done = lab.playbook("site.yml", "--limit", "outsider,nas", "-e", "site_force=true", inventories=[inventory])
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert re.search(pattern, output), output
    assert re.search(r"^outsider +: ok=\d+ +changed=0 .*failed=1 ", done.stdout, re.MULTILINE), output
    assert re.search(r"^nas +: .*failed=0 ", done.stdout, re.MULTILINE), output
    assert re.search(r"^included: gpustead.cluster.nas for nas$", done.stdout, re.MULTILINE), output


@pytest.fixture
def without_python(fresh_host: Host) -> Iterator[None]:
    fresh_host.check_output("mv /usr/bin/python3 /usr/bin/python3.hidden")
    yield
    fresh_host.check_output("mv /usr/bin/python3.hidden /usr/bin/python3")


@pytest.mark.usefixtures("without_python")
def test_a_node_without_python(lab: Lab, outsider_as_node: Path) -> None:
    assert_outsider_refused(lab, outsider_as_node, r"outsider.*[Pp]ython")


@pytest.fixture
def unknown_release(fresh_host: Host) -> Iterator[None]:
    fresh_host.check_output(
        "cp /usr/lib/os-release /root/os-release && sed -i 's/VERSION_ID=.*/VERSION_ID=\"99\"/' /usr/lib/os-release"
    )
    yield
    fresh_host.check_output("mv /root/os-release /usr/lib/os-release")


@pytest.mark.usefixtures("unknown_release")
def test_an_unknown_debian_release(lab: Lab, outsider_as_node: Path) -> None:
    assert_outsider_refused(lab, outsider_as_node, r"outsider.*99")
