"""ssh-audit of the two sshds of a node: through a node for the mesh's, through a client for the workspace's."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Host, Lab

MESH, WORKSPACE = 2222, 10022
KINDS = ("kex", "key", "enc", "mac")


@contextlib.contextmanager
def through(source: Host, address: str, port: int) -> Iterator[int]:
    """A port of this machine behind which an address stands, as the source reaches it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        near: int = free.getsockname()[1]
    files = source.inventory / ".ssh"
    options = ["-o", f"UserKnownHostsFile={files}/known_hosts", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]
    way = ["-N", "-L", f"127.0.0.1:{near}:{address}:{port}", f"root@{source.address}"]
    with subprocess.Popen(["ssh", *options, "-i", str(files / "id_ed25519"), *way]) as tunnel:
        try:
            for _attempt in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", near), 1):
                    break
                time.sleep(0.1)
            yield near
        finally:
            tunnel.terminate()


def audit(source: Host, node: Host, port: int) -> dict[str, set[str]]:
    """The algorithms that ssh-audit fails, and those that it warns of."""
    with through(source, node.address, port) as near:
        command = [sys.executable, "-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", "-p", str(near)]
        done = subprocess.run([*command, "127.0.0.1"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert all(report[kind] for kind in KINDS)
    entries = [entry for kind in KINDS for entry in report[kind]]
    return {level: {e["algorithm"] for e in entries if e["notes"].get(level)} for level in ("fail", "warn")}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_mesh_has_neither_a_failure_nor_a_warning(lab: Lab, number: int) -> None:
    node, peer = lab.nodes[number], lab.nodes[number - 1]
    assert audit(peer, node, MESH) == {"fail": set(), "warn": set()}


def test_the_workspace_has_no_failure(lab: Lab) -> None:
    found = audit(lab["client"], lab.nodes[0], WORKSPACE)
    assert found["fail"] == set()
    # Old clients have nothing newer, so these stay.
    assert found["warn"] <= {"curve25519-sha256", "curve25519-sha256@libssh.org"}


def test_the_mesh_refuses_a_client_that_knows_only_older_ways(lab: Lab) -> None:
    here, peer = lab.nodes[:2]
    command = f"ssh -o BatchMode=yes -o KexAlgorithms=curve25519-sha256 {peer.name} hostname"
    refused = here.compose("gpustead-mesh", "mesh", command, user=lab.owner)
    assert refused.rc != 0
    assert "no matching key exchange method" in refused.stderr
    assert (
        here.compose("gpustead-mesh", "mesh", f"ssh {peer.name} hostname", user=lab.owner).stdout.strip() == peer.name
    )
