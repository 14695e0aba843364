"""Hosts that go away and come back: asked over connections of their own, each within a time."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from conftest import Host, Lab
from support import answered, probe

# What a network and a server take that come up again: a server of NFS gives clients 90 s to claim what they had.
RETURN = 400.0


def ask(host: Host, command: str, seconds: float = 60, account: str = "root") -> subprocess.CompletedProcess[str]:
    """Runs a shell command. Over a connection of its own: one that is shared outlives no reboot.

    One that takes longer than `seconds` raises subprocess.TimeoutExpired.
    """
    argv = [
        "ssh",
        "-i",
        str(host.inventory / ".ssh/id_ed25519"),
        "-o",
        f"UserKnownHostsFile={host.inventory}/.ssh/known_hosts",
    ]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", f"{account}@{host.address}", command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds)


def tell(host: Host, command: str, seconds: float = 60) -> str:
    """The output of a command that must succeed."""
    done = ask(host, command, seconds)
    assert done.returncode == 0, f"{host.name}: {command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def machines(lab: Lab) -> list[Host]:
    """Those with kernels of their own: the nodes and their NAS."""
    return [*lab.nodes, lab["nas"]]


def boot_of(host: Host) -> str:
    """The id of a host's present boot; empty while it does not answer."""
    try:
        return ask(host, "cat /proc/sys/kernel/random/boot_id", 20).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def until(what: str, holds: Callable[[], object], seconds: float) -> float:
    """Wait until it holds; the seconds that it took."""
    began = time.monotonic()
    while not holds():
        took = time.monotonic() - began
        assert took < seconds, f"{what}: not after {took:.0f} s"
        time.sleep(2)
    return time.monotonic() - began


def reboot(hosts: Iterable[Host], seconds: float = 600) -> None:
    """Boots all of them anew at once, without Ansible, and waits until each lets root in: to go down is most of it."""
    hosts = [*hosts]
    before = {host.name: boot_of(host) for host in hosts}
    for host in hosts:
        ask(host, "systemctl reboot --no-block")
    for host in hosts:
        until(f"{host.name} boots", partial(_has_booted, host, before[host.name]), seconds)


def _has_booted(host: Host, before: str) -> bool:
    return boot_of(host) not in ("", before)


def is_running(node: Host) -> bool:
    """Whether every container of the owner's workspace and of the mesh runs, and is healthy where it says."""
    lines = ask(node, "timeout 30 docker ps --all --format '{{.Names}} {{.Status}}'").stdout.splitlines()
    return bool(lines) and all(" Up " in line and "unhealthy" not in line and "starting" not in line for line in lines)


def image_of(node: Host) -> str:
    """The image that the workspaces of a node run, as its id: it has Python."""
    return tell(node, "docker inspect --format '{{.Image}}' gpustead-workspace-jupyter-1")


def addresses(host: Host) -> tuple[str, str]:
    """IPv4 and IPv6."""
    line = tell(host, "ip -6 -o addr show dev eth0 scope global")
    return host.address, line.split()[3].partition("/")[0]


def reachable(source: Host, pairs: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those (address, port) pairs that a host can connect to. Whoever is slow to answer is not taken for closed."""
    return answered(tell(source, probe(pairs, 8), 120))


def playbook(lab: Lab, *args: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """A playbook over connections of its own, within a time."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as sockets:
        return lab.playbook(*args, environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": sockets}, seconds=seconds)


def site(lab: Lab, *args: str, seconds: float = 3600) -> str:
    """A run of site.yml that must succeed; what it printed."""
    done = playbook(lab, "site.yml", *args, seconds=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def flat(done: subprocess.CompletedProcess[str]) -> str:
    """All that was said, without line ends: Ansible wraps its lines."""
    return " ".join((done.stdout + done.stderr).split())


# Power. A host's own kernel runs in a container of this machine's.


def _engine(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True, timeout=180)
    return done.stdout.strip()


def _container(host: Host) -> str:
    return f"gpustead-{host.variables['cluster_name']}-{host.name}"


def is_on(host: Host) -> bool:
    return _engine("inspect", "--format", "{{.State.Running}}", _container(host)) == "true"


def power_off(host: Host) -> None:
    """At once. What was on its disk is there when it comes back."""
    _engine("stop", "--time", "0", _container(host))


def shut_down(host: Host, seconds: float = 600) -> float:
    """In order, and it stays off; the seconds that it took."""
    _engine("update", "--restart", "no", _container(host))
    ask(host, "systemctl poweroff --no-block")
    return until(f"{host.name} is off", lambda: not is_on(host), seconds)


def power_on(host: Host) -> None:
    """Does not wait."""
    _engine("start", _container(host))
    _engine("update", "--restart", "unless-stopped", _container(host))


def until_it_lets_in(host: Host, seconds: float = 240) -> float:
    return until(f"{host.name} lets root in", lambda: boot_of(host), seconds)


@contextmanager
def without(host: Host) -> Iterator[None]:
    """A host whose power is cut, until the end of the block at the latest."""
    tell(host, "sync")
    power_off(host)
    try:
        yield
    finally:
        power_on(host)
        until_it_lets_in(host)
