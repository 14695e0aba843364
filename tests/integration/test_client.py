"""playbooks/client.yml on a machine outside the cluster: the nodes and their workspaces are reached by name."""

from __future__ import annotations

import re

import pytest
from conftest import Host, Lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Host:
    """The client with the owner's private key, and a line of its own in ssh's configuration."""
    host = lab["client"]
    key = (lab.inventory / ".ssh/id_ed25519").read_text()
    host.check_output(
        "mkdir -p -m 0700 ~/.ssh; printf 'Host mine\\n  HostName 192.0.2.1\\n' > ~/.ssh/config\n"
        f"umask 077; cat > ~/.ssh/id_cluster <<'END'\n{key}END"
    )
    return host


def describe(lab: Lab) -> str:
    done = lab.playbook(
        "playbooks/client.yml", "-e", "client_hosts=client", "-e", "client_identity_file=~/.ssh/id_cluster",
        "-e", "client_attach_dir=/root/attach",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_client_reaches_nodes_and_workspaces_by_name(lab: Lab, client: Host) -> None:
    describe(lab)
    for node in lab.nodes:
        for name in (node.name, f"{node.name}-workspace"):
            assert client.check_output(f"ssh -o BatchMode=yes -o StrictHostKeyChecking=yes {name} whoami") == lab.owner


def test_what_the_user_had_stays_and_a_second_run_changes_nothing(lab: Lab, client: Host) -> None:
    text = describe(lab)
    assert set(re.findall(r" changed=(\d+)", text)) == {"0"}
    assert "hostname 192.0.2.1" in client.check_output("ssh -G mine")
    assert client.check_output("stat -c %a ~/.ssh/config ~/.ssh/config.d/*.conf").split() == ["600", "600"]
