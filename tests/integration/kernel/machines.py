"""Hosts that go away and come back: asked over connections of their own, each within a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from functools import partial

from conftest import Host, Lab


def ask(host: Host, command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a shell command as root. Over a connection of its own: one that is shared outlives no reboot."""
    argv = [
        "ssh",
        "-i",
        str(host.inventory / ".ssh/id_ed25519"),
        "-o",
        f"UserKnownHostsFile={host.inventory}/.ssh/known_hosts",
    ]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", f"root@{host.address}", command]
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


def reboot(hosts: Iterable[Host], seconds: float = 240) -> None:
    """Boots all of them anew at once, without Ansible, and waits until each lets root in."""
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
