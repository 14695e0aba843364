"""The mesh: every node reaches every other, and nobody whom the authority did not sign."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest
from conftest import Host, Lab

MESH = ("gpustead-mesh", "mesh")
STRAY_PORT = 45022  # within the range that is open between nodes


def test_every_node_reaches_every_peer_with_strict_checking(lab: Lab) -> None:
    for here, peer in itertools.permutations(lab.nodes, 2):
        command = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=yes {peer.name} hostname"
        result = here.compose(*MESH, command, user=lab.owner)
        assert (result.rc, result.stdout.strip()) == (0, peer.name), f"{here.name}: {result.stderr}"


@pytest.fixture
def stray_sshd(lab: Lab) -> Iterator[Host]:
    """A second sshd in the second node's mesh, with a host key that another authority has signed."""
    node = lab.nodes[1]
    script = (
        "rm -f /tmp/stray*; for key in stray strayca; do ssh-keygen -q -t ed25519 -N '' -f /tmp/$key; done && "
        f"ssh-keygen -q -s /tmp/strayca -h -I stray -n {node.name} /tmp/stray.pub && "
        f"/usr/sbin/sshd -p {STRAY_PORT} -h /tmp/stray -o HostCertificate=/tmp/stray-cert.pub "
        "-o PidFile=/tmp/stray.pid -o AuthorizedKeysFile=/etc/gpustead/ssh/authorized_keys.d/%u -f /dev/null"
    )
    started = node.compose(*MESH, f"sh -c {shlex.quote(script)}", user="root")
    assert started.rc == 0, started.stderr
    yield node
    node.compose(*MESH, "sh -c 'kill $(cat /tmp/stray.pid); rm -f /tmp/stray*'", user="root")


def test_a_host_key_that_the_authority_did_not_sign_is_refused(lab: Lab, stray_sshd: Host) -> None:
    head = lab.nodes[0]
    refused = head.compose(*MESH, f"ssh -o BatchMode=yes -p {STRAY_PORT} {stray_sshd.name} hostname", user=lab.owner)
    assert refused.rc != 0
    assert "Host key verification failed" in refused.stderr
    # The same sshd answers, so it was the key that was refused and not the connection.
    answer = head.compose(*MESH, f"ssh-keyscan -p {STRAY_PORT} {stray_sshd.address}", user=lab.owner)
    assert "ssh-ed25519" in answer.stdout


def test_the_mesh_lets_in_its_user_alone(lab: Lab) -> None:
    head, peer = lab.nodes[:2]
    denied = head.compose(*MESH, f"ssh -o BatchMode=yes root@{peer.name} true", user=lab.owner)
    assert denied.rc != 0
    assert "Permission denied" in denied.stderr


def test_training_over_two_nodes_with_two_ranks_each(lab: Lab) -> None:
    result = lab.nodes[0].compose(
        *MESH,
        "mesh-run --nodes 2 --gpus-per-node 2 /opt/gpustead/examples/train.py",
        user=lab.owner,
    )
    assert result.rc == 0, result.stdout + result.stderr
    assert len(set(re.findall(r"rank[ =:]+(\d+)", result.stdout))) >= 4, result.stdout
    assert len(set(re.findall(r"rank=\d+ world_size=4 host=(\S+)", result.stdout))) == 2, result.stdout
    assert re.search(r"^.*OK world_size=4", result.stdout, re.MULTILINE), result.stdout


def test_mesh_run_passes_on_the_failure_of_a_script(lab: Lab) -> None:
    script = "/opt/gpustead/examples/train.py --zero-stage 9"
    result = lab.nodes[0].compose(*MESH, f"mesh-run --nodes 2 {script}", user=lab.owner)
    assert result.rc != 0
    assert "invalid choice: 9" in result.stdout + result.stderr


def test_mesh_run_names_a_node_that_it_does_not_know(lab: Lab) -> None:
    result = lab.nodes[0].compose(*MESH, "mesh-run --nodes gpu99 /opt/gpustead/examples/train.py", user=lab.owner)
    assert result.rc != 0
    assert "gpu99" in result.stderr
