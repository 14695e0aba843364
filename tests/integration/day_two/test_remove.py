"""A node leaves the cluster, alive or dead: what it shows is refused everywhere, also by a node that was down.

About 25 minutes; the nodes that go come back from their inventory lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from conftest import Host, Lab
from second_day import (
    KEY,
    MESH,
    away,
    begin,
    flat,
    forget,
    hostfile,
    join_again,
    killed,
    mesh_run,
    runs,
    secret,
    shown,
    tidy,
    until,
)
from support import AS_LAYOUT, assert_fresh, site

PROGRAM = "sleep 600"
GONE = (KEY, "/usr/local/bin/mesh-run", "/usr/local/lib/gpustead/mesh", "/var/lib/gpustead/receipts")


@pytest.fixture(autouse=True, scope="module")
def as_it_was(lab: Lab) -> Iterator[None]:
    tidy(lab)
    join_again(lab)
    yield
    tidy(lab)
    join_again(lab)
    for ending in (".removed", ".revoked"):
        secret(lab, ending).unlink(missing_ok=True)
    site(lab)
    assert_fresh(lab)


@pytest.fixture
def last(lab: Lab) -> Iterator[Host]:
    """A node that nobody needs, and that is there again afterwards."""
    yield lab.nodes[-1]
    tidy(lab)
    join_again(lab)


def remove(lab: Lab, name: str, *words: str, playbook: Callable[..., Any] | None = None) -> Any:
    return (playbook or lab.playbook)("playbooks/remove.yml", "-e", f"node={name}", *words)


def ssh(lab: Lab, by: Host, name: str, address: str) -> Any:
    """By its name, and by its address as that of another that is known: the certificate decides."""
    at = f"-o HostName={address} -o HostKeyAlias={name.lower()}"
    command = f"ssh -F /run/gpustead/ssh_config -o ConnectTimeout=10 {at} {lab.nodes[0].name} true"
    return by.compose(*MESH, command, user=lab.owner)


def says_revoked(lab: Lab, host: Host, node: Host) -> bool:
    tried = ssh(lab, host, node.name, node.address)
    return tried.rc != 0 and "revoked" in tried.stderr.lower()


def is_refused(by: Host, name: str, key: str) -> bool:
    """Whether ssh is told so in the mesh of a node, and knows no such node."""
    told = str(by.compose(*MESH, "cat /run/gpustead/known_hosts /run/gpustead/ssh_config").stdout)
    return f"@revoked * {key}" in told and f"Host {name} " not in told


def is_listed(host: Host, name: str) -> bool:
    """Whether it has a record of its own on the share."""
    return bool(host.run(f"cd / && {AS_LAYOUT} test -e /mnt/nas/.cluster/nodes/{name}.json").rc == 0)


def people(host: Host) -> str:
    return host.check_output(f"cd / && {AS_LAYOUT} ls /mnt/nas/users")


def test_a_node_that_others_need_stays(lab: Lab) -> None:
    done = remove(lab, lab.nodes[0].name)
    assert done.returncode != 0 and "builds the images" in flat(done.stdout + done.stderr)
    done = lab.playbook("playbooks/remove.yml", "-e", "dead=true")
    assert done.returncode != 0 and "no node is named" in flat(done.stdout + done.stderr)
    assert hostfile(lab.nodes[0]) == lab.groups["gpu_nodes"]


def test_alive(lab: Lab, last: Host) -> None:
    first, down, name, old = lab.nodes[0], lab.nodes[1], last.name, shown(last)
    last.check_output(f"mkdir -p /root/copy && cp -a {KEY}* /root/copy/")  # as whoever has copied them
    assert ssh(lab, first, name, last.address).rc == 0
    homes = people(first)
    # While something runs there, it stays.
    begin(lab, len(lab.nodes) - 1, program=PROGRAM)
    busy = remove(lab, name)
    assert busy.returncode != 0 and PROGRAM in flat(busy.stdout) and "nothing was changed" in flat(busy.stdout)
    assert name in hostfile(first) and is_listed(first, name)
    assert not secret(lab, ".removed").exists() or name not in secret(lab, ".removed").read_text()
    mesh_run(lab, "stop all")
    until(lambda: not runs(last, PROGRAM), 60)

    check = remove(lab, name, "--check")
    assert check.returncode == 0, check.stdout + check.stderr
    assert name in hostfile(first) and shown(last) == old
    with away(lab, down) as playbook:
        done = remove(lab, name, playbook=playbook)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Delete its line in" in flat(done.stdout) and down.name in flat(done.stdout)
    assert name not in hostfile(first) and not is_listed(first, name)
    last.check_output(" && ".join(f"test ! -e {path}" for path in GONE))
    assert "gpustead-" not in last.check_output("docker ps --all --format '{{.Names}}'")
    assert ":5000" not in last.run("cat /root/.docker/config.json").stdout
    assert people(first) == homes

    # Who was down knows it as soon as it is back, without a run of the site.
    for host in (first, down):
        until(partial(is_refused, host, name, old), 60)
    # Somebody answers with what was copied, at the old address.
    last.check_output(
        "printf 'HostKey /root/copy/ssh_host_ed25519_key\\nHostCertificate /root/copy/ssh_host_ed25519_key-cert.pub\\n"
        "Port 2222\\nPidFile none\\n' > /root/copy/sshd && mkdir -p /run/sshd && /usr/sbin/sshd -f /root/copy/sshd"
    )
    try:
        for host in (first, down):
            refused = ssh(lab, host, name, last.address)
            assert refused.rc != 0 and "revoked" in refused.stderr.lower(), refused.stderr
    finally:
        last.run("pkill -f '^sshd: /usr/sbin/sshd -f /root/copy/[s]shd'; rm -rf /root/copy")

    again = remove(lab, name)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"changed=[1-9]", again.stdout) is None, again.stdout
    refused = lab.playbook("site.yml")
    said = flat(refused.stdout + refused.stderr)
    assert refused.returncode != 0 and name in said and "remove.yml took it out of the cluster" in said

    # A machine of the same name joins with a key of its own.
    forget(lab, name)
    site(lab)
    until(lambda: ssh(lab, first, name, last.address).rc == 0, 60)
    assert shown(last) != old
    for host in lab.nodes:  # by what root has there, too
        assert f"@revoked * {old}" in host.check_output("cat /usr/local/lib/gpustead/mesh/known_hosts")


def test_dead(lab: Lab, last: Host) -> None:
    first, name, old = lab.nodes[0], last.name, shown(last)
    with away(lab, last) as playbook:
        alive = remove(lab, name, playbook=playbook)
        assert alive.returncode != 0 and "does not answer, so nothing was changed" in flat(alive.stdout)
        assert name in hostfile(first)
        began = time.monotonic()
        done = remove(lab, name, "-e", "dead=true", playbook=playbook)
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - began < 120  # nobody waited for it
        assert name not in hostfile(first) and not is_listed(first, name)
    # It is back, with all it had: its containers run, and nobody trusts it.
    assert shown(last) == old
    for host in lab.nodes[:2]:
        until(partial(is_refused, host, name, old), 60)
        # Its container has just been started.
        until(partial(says_revoked, lab, host, last), 60)
    # A machine with its disk is told what to do.
    forget(lab, name)
    again = lab.playbook("site.yml", "--limit", name, "-e", "site_force=true", "--tags", "ssh_mesh")
    assert again.returncode != 0 and "has a host key that was revoked" in flat(again.stdout + again.stderr)


@pytest.mark.parametrize("seconds", [5, 9, 14])
def test_killed_the_next_run_does_the_rest(lab: Lab, last: Host, seconds: int) -> None:
    killed(lab, seconds, "playbooks/remove.yml", "-e", f"node={last.name}")
    done = remove(lab, last.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.name not in hostfile(lab.nodes[0]) and not is_listed(lab.nodes[0], last.name)
    last.check_output(" && ".join(f"test ! -e {path}" for path in GONE))
