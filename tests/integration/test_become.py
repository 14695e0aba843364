"""A host on which Ansible logs in as somebody whose sudo asks for a password, with -K."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from support import site, stale

LOGIN, PASSWORD = "gsops", "open the gate"


@pytest.fixture
def asks(lab: Lab) -> Iterator[Host]:
    node = lab.nodes[-1]
    home = f"/home/{LOGIN}"
    node.check_output(
        f"useradd -m -s /bin/bash {LOGIN} && echo '{LOGIN}:{PASSWORD}' | chpasswd && "
        f"install -d -o {LOGIN} -m 700 {home}/.ssh && "
        f"install -o {LOGIN} -m 600 /root/.ssh/authorized_keys {home}/.ssh && "
        f"echo '{LOGIN} ALL=(ALL:ALL) ALL' > /etc/sudoers.d/{LOGIN}"
    )
    try:
        assert node.run(f"su {LOGIN} -c 'sudo -n true'").rc != 0
        yield node
    finally:
        node.run(f"pkill -9 -u {LOGIN}; rm /etc/sudoers.d/{LOGIN}; userdel -f -r {LOGIN}")


def typed(lab: Lab, node: Host, folder: Path, *arguments: str) -> str:
    """A run for the host, at whose question the password is typed; what it printed."""
    inventory = folder / "login.yml"
    inventory.write_text(f"gpu_nodes: {{hosts: {{{node.name}: {{ansible_user: {LOGIN}}}}}}}\n")
    sources = ["-i", str(lab.inventory), "-i", str(inventory)]
    # Without a terminal, it is read from stdin.
    done = subprocess.run(
        ["ansible-playbook", *sources, "--limit", node.name, "-K", *arguments],
        cwd=PROJECT,
        env={**plain_environment(), "ANSIBLE_NOCOLOR": "1"},
        input=f"{PASSWORD}\n",
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert PASSWORD not in said
    return done.stdout


def test_the_password_opens_the_host_in_the_one_exchange_and_to_modules(lab: Lab, asks: Host, tmp_path: Path) -> None:
    site(lab)
    said = typed(lab, asks, tmp_path, "site.yml")
    assert stale(said) == {}
    assert "1 of 1 hosts are as their roles left them" in said
    assert "asked one by one" not in said
    typed(lab, asks, tmp_path, "playbooks/verify.yml", "-e", f"verify_report={tmp_path}/verify.json")
