"""What the tests of the second day ask of a lab: nodes that are down, runs that go on, playbooks that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from conftest import PROJECT, Host, Lab, plain_environment
from support import AS_LAYOUT, site

MESH = ("gpustead-mesh", "mesh")
SHARED = "/mnt/nas/.cluster/mesh"
CA = ".secrets/ssh_mesh_ca"
KEY = "/etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key"
# A module of Ansible's that runs on a host: it is read from what it is given.
MODULE = "pgrep -fx /usr/bin/python3"


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def until(done: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)


def hostfile(host: Host) -> list[str]:
    return [line.split()[0] for line in host.check_output(f"cat {SHARED}/hostfile").splitlines()]


def records(host: Host) -> list[str]:
    """Of nodes that are drained."""
    return str(host.run(f"ls {SHARED}/drained").stdout).split()


def mesh_run(lab: Lab, words: str, at: int = 0) -> Any:
    return lab.nodes[at].compose(*MESH, f"mesh-run {words}", user=lab.owner)


def runs(host: Host, program: str) -> bool:
    """Whether a run's program is there."""
    return bool(host.run(f"pgrep -fx '{program}'").stdout)


def begin(lab: Lab, *nodes: int, program: str) -> None:
    """A run that is there on all its nodes."""
    names = ",".join(lab.nodes[at].name for at in nodes)
    inner = f"nohup mesh-run --nodes {names} --launcher none {program} > /tmp/run.log 2>&1 < /dev/null &"
    done = lab.nodes[nodes[0]].compose(*MESH, f'bash -c "cd ~ && {inner}"', user=lab.owner)
    assert done.rc == 0, done.stderr
    for at in nodes:
        until(partial(runs, lab.nodes[at], program), 90)


def all_reach_all(lab: Lab) -> None:
    for at in range(len(lab.nodes)):
        until(partial(is_whole, lab, at), 90)


def is_whole(lab: Lab, at: int = 0) -> bool:
    done = mesh_run(lab, "--launcher none hostname", at)
    return done.rc == 0 and len(done.stdout.splitlines()) == len(lab.nodes)


@contextmanager
def away(lab: Lab, node: Host) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """A node that is down: its mesh does not run. Yields a `lab.playbook` that does not reach it."""
    with tempfile.TemporaryDirectory() as top:
        gone = Path(top, "gone.yml")
        no_way = {node.name: {"ansible_ssh_extra_args": "-o ProxyCommand=false"}}
        gone.write_text(json.dumps({"gpu_nodes": {"hosts": no_way}}))
        node.check_output("docker stop gpustead-mesh")
        try:
            # Its connections of earlier runs are not for these.
            yield partial(lab.playbook, inventories=[gone], environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": top})
        finally:
            node.check_output("docker start gpustead-mesh")


def killed(lab: Lab, seconds: float, *words: str) -> None:
    """A run that is killed, unless it has ended by then; and the end of what it had begun on the hosts."""
    command = ["ansible-playbook", "-i", str(lab.inventory), *words]
    run = subprocess.Popen(
        command, cwd=PROJECT, env=plain_environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        time.sleep(seconds)
    finally:
        kill(run)
    for host in lab.nodes:
        until(partial(is_idle, host), 180)


def is_idle(host: Host) -> bool:
    return not host.run(MODULE).stdout


def kill(run: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def secret(lab: Lab, ending: str) -> Path:
    """A file beside the key of the authority."""
    return lab.inventory / f"{CA}{ending}"


def shown(host: Host) -> str:
    """Type and key of the host key in its mesh; empty where it has none."""
    return " ".join(str(host.run(f"cat {KEY}.pub").stdout).split()[:2])


def forget(lab: Lab, name: str) -> None:
    """As the administrator does who uses the name again."""
    if secret(lab, ".removed").exists():
        lines = secret(lab, ".removed").read_text().splitlines(keepends=True)
        secret(lab, ".removed").write_text("".join(line for line in lines if line.split()[0] != name))


def join_again(lab: Lab) -> None:
    """All nodes are there as their lines in the inventory say; one whose key was revoked makes another."""
    revoked = secret(lab, ".revoked").read_text() if secret(lab, ".revoked").exists() else ""
    for node in lab.nodes:
        forget(lab, node.name)
        if shown(node) and shown(node) in revoked:
            node.check_output(f"rm -f {KEY}*")
    site(lab)


def tidy(lab: Lab) -> None:
    """Nothing runs, nobody is at work, and all nodes take runs; also after tests that were interrupted."""
    first = lab.nodes[0]
    first.run(f"cd / && {AS_LAYOUT} sh -c 'rm -f /mnt/nas/.cluster/leases/*'")
    for node in lab.nodes:
        node.run("docker start gpustead-mesh")
    mesh_run(lab, "stop all")
    for record in records(first):
        done = lab.playbook("playbooks/undrain.yml", "-e", f"node={record.removesuffix('.json')}")
        assert done.returncode == 0, done.stdout + done.stderr
