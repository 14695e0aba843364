"""A node leaves the cluster, alive or dead: what it shows is refused everywhere, also by a node that was down.

About 20 minutes; the nodes that go come back from their inventory lines.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Host, Lab
from support import AS_LAYOUT, site

MESH = ("gpustead-mesh", "mesh")
SHARED = "/mnt/nas/.cluster/mesh"
CA = ".secrets/ssh_mesh_ca"
KEY = "/etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key"


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def until(done: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)


def remove(lab: Lab, name: str, *words: str) -> Any:
    return lab.playbook("playbooks/remove.yml", "-e", f"node={name}", *words)


def container(lab: Lab, name: str) -> str:
    return f"gpustead-{lab.nodes[0].variables['cluster_name']}-{name}"


@contextmanager
def paused(lab: Lab, name: str) -> Iterator[None]:
    subprocess.run(["docker", "pause", container(lab, name)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", container(lab, name)], check=True, capture_output=True)


def hostfile(host: Host) -> list[str]:
    return [line.split()[0] for line in host.check_output(f"cat {SHARED}/hostfile").splitlines()]


def shown(host: Host) -> str:
    return " ".join(host.check_output(f"cat {KEY}.pub").split()[:2])


def trust(host: Host) -> str:
    """What ssh is told in the mesh of a node."""
    return str(host.compose(*MESH, "cat /run/gpustead/known_hosts /run/gpustead/ssh_config").stdout)


def is_reached(lab: Lab, by: Host, name: str, address: str) -> bool:
    """By its name, and by its address as another's that is known: the certificate decides."""
    at = f"-o HostName={address} -o HostKeyAlias={name.lower()}"
    command = f"ssh -F /run/gpustead/ssh_config -o ConnectTimeout=10 {at} {lab.nodes[0].name} true"
    return bool(by.compose(*MESH, command, user=lab.owner).rc == 0)


def forget(lab: Lab, name: str) -> None:
    """As the administrator does who uses the name again."""
    for path in lab.inventory.glob(f"{CA}.removed"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.split()[0] != name))


@pytest.fixture
def last(lab: Lab) -> Iterator[Host]:
    """A node that nobody needs, and that is there again afterwards."""
    node = lab.nodes[-1]
    yield node
    forget(lab, node.name)
    node.run(f"rm -f {KEY}*")
    site(lab)


def test_a_node_that_others_need_stays(lab: Lab) -> None:
    done = remove(lab, lab.nodes[0].name)
    assert done.returncode != 0 and "builds the images" in flat(done.stdout + done.stderr)
    assert not list(lab.inventory.glob(f"{CA}.removed")) and hostfile(lab.nodes[0]) == lab.groups["gpu_nodes"]


def test_alive(lab: Lab, last: Host) -> None:
    first, name, old = lab.nodes[0], last.name, shown(last)
    certificate = last.check_output(f"cat {KEY}-cert.pub; cat {KEY}")  # as whoever has copied them
    last.check_output(f"mkdir -p /root/copy && cp -a {KEY}* /root/copy/")
    assert is_reached(lab, first, name, last.address)
    home = first.check_output(f"{AS_LAYOUT} ls /mnt/nas/users")
    # While something runs there, it stays.
    command = f'bash -c "cd ~ && nohup mesh-run --nodes {name} --launcher none sleep 600 > /tmp/log 2>&1 < /dev/null &"'
    last.compose(*MESH, command, user=lab.owner)
    until(lambda: last.run("pgrep -fx 'sleep 600'").stdout, 60)
    busy = remove(lab, name)
    assert busy.returncode != 0 and "sleep 600" in flat(busy.stdout) and name in hostfile(first)
    first.compose(*MESH, "mesh-run stop all", user=lab.owner)
    until(lambda: not last.run("pgrep -fx 'sleep 600'").stdout, 60)

    check = remove(lab, name, "--check")
    assert check.returncode == 0 and name in hostfile(first) and shown(last) == old
    with paused(lab, lab.nodes[1].name):
        done = remove(lab, name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Delete its line in" in flat(done.stdout) and lab.nodes[1].name in flat(done.stdout)
    assert name not in hostfile(first)
    assert first.run(f"ls {SHARED}/../nodes/{name}.json").rc != 0
    assert last.run(f"ls {KEY} /usr/local/bin/mesh-run /var/lib/gpustead/receipts").rc != 0
    assert "gpustead-" not in last.check_output("docker ps --all --format '{{.Names}}'")
    assert (
        "auths" not in last.run("cat /root/.docker/config.json").stdout
        or not last.run("grep -o '[0-9.]*:5000' /root/.docker/config.json").stdout
    )
    assert first.check_output(f"{AS_LAYOUT} ls /mnt/nas/users") == home

    # Who was down knows it as soon as it is back, without a run of the site.
    for host in (first, lab.nodes[1]):
        until(lambda host=host: f"@revoked * {old}" in trust(host), 30)
        assert f"Host {name} " not in trust(host)
    # Somebody answers with what was copied, at the old address.
    assert certificate
    last.check_output(
        "printf 'HostKey /root/copy/ssh_host_ed25519_key\\nHostCertificate /root/copy/ssh_host_ed25519_key-cert.pub\\n"
        "Port 2222\\nPidFile none\\n' > /root/copy/sshd && mkdir -p /run/sshd && /usr/sbin/sshd -f /root/copy/sshd"
    )
    try:
        for host in (first, lab.nodes[1]):
            at = f"-o HostName={last.address} -o HostKeyAlias={name.lower()}"
            command = f"ssh -F /run/gpustead/ssh_config -o ConnectTimeout=10 {at} {first.name} true"
            refused = host.compose(*MESH, command, user=lab.owner)
            assert refused.rc == 255 and "revoked" in refused.stderr.lower(), refused.stderr
    finally:
        last.run("pkill -f '^sshd: /usr/sbin/sshd -f /root/copy/sshd'; rm -rf /root/copy")

    again = remove(lab, name)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"changed=[1-9]", again.stdout) is None
    refused = lab.playbook("site.yml")
    said = flat(refused.stdout + refused.stderr)
    assert refused.returncode != 0 and f"{name} (" in said and "remove.yml took it out of the cluster" in said

    # A machine of the same name joins with a key of its own.
    forget(lab, name)
    site(lab)
    until(lambda: is_reached(lab, first, name, last.address), 60)
    assert shown(last) != old and f"@revoked * {old}" in trust(first)


def test_dead(lab: Lab, last: Host) -> None:
    first, name, old = lab.nodes[0], last.name, shown(last)
    with paused(lab, name):
        alive = remove(lab, name)
        assert alive.returncode != 0 and "does not answer, so nothing was changed" in flat(alive.stdout)
        assert name in hostfile(first)
        began = time.monotonic()
        done = remove(lab, name, "-e", "dead=true")
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - began < 60  # nobody waited for it
        assert name not in hostfile(first)
    # It is back, with all it had: its containers run, and nobody trusts it.
    for host in lab.nodes[:2]:
        until(lambda host=host: f"@revoked * {old}" in trust(host), 30)
        assert not is_reached(lab, host, name, last.address)
    # A machine with its disk is told what to do.
    forget(lab, name)
    refused = lab.playbook("site.yml", "--limit", name, "-e", "site_force=true", "--tags", "ssh_mesh")
    assert refused.returncode != 0 and "has a host key that was revoked" in flat(refused.stdout)


@pytest.mark.parametrize("seconds", [4, 8, 12])
def test_killed_the_next_run_does_the_rest(lab: Lab, last: Host, seconds: int) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab.playbook("playbooks/remove.yml", "-e", f"node={last.name}", seconds=seconds)
    done = remove(lab, last.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.name not in hostfile(lab.nodes[0])
    assert last.run(f"ls {KEY}").rc != 0
