# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starting a run from a workspace, or from a login on a node: as oneself, through the mesh's door on this node.

No root, no group docker: an SSH key of one's own, which is made at the first run and lies in the home on the share.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mesh_run import places
from mesh_run.request import Refused

COMMON = ("shared", "datasets", "groups")  # of the share, and /<name> in the mesh


@dataclass(frozen=True)
class Here:
    """Where a run is started.

    Attributes:
        node: of the node, what role ssh_mesh says: its name, how keys are exchanged, and where the share is mounted.
        account: who starts it.
        share: where the share is mounted, on a node; empty in a workspace, which has the places as the mesh has them.
        programs: where the programs, the authority and the door are.
    """

    node: Mapping[str, Any]
    account: str
    share: str
    programs: Path = places.PROGRAMS

    @property
    def home(self) -> Path:
        return Path(self.share, "users", self.account) if self.share else Path("/home", self.account)

    def in_mesh(self, path: str) -> str:
        """Where a place is in the mesh. Raises Refused where it is not there."""
        own = f"/home/{self.account}"
        there = {str(self.home): own, **{os.path.join(self.share or "/", name): f"/{name}" for name in COMMON}}
        for outside, inside in there.items():
            if path == outside or path.startswith(f"{outside}/"):
                return inside + path[len(outside) :]
        raise Refused(f"{path} is not on the share, where all nodes see it: go to {', '.join(there)}")


def find(programs: Path = places.PROGRAMS) -> Here:
    """Where this is. Raises Refused where there is no mesh."""
    try:
        node = json.loads((programs / "node.json").read_text())
    except OSError:
        raise Refused("there is no mesh here: run it in a workspace, on a node, or in the mesh's container") from None
    account = places.account()
    if os.geteuid() == 0:
        raise Refused("root has no place in the mesh: run it as an account of the cluster")
    share = str(node["share"]) if Path(node["share"], "users").is_dir() else ""
    return Here(node, account, share, programs)


def ensure_key(home: Path) -> Path:
    """The account's own key, made where none is. Raises Refused where it cannot be."""
    key = home / places.KEY
    public = Path(f"{key}.pub")
    if key.exists() and public.exists():
        return key
    try:
        # What a group may write sshd does not trust.
        for directory in (key.parent.parent, key.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
            mode = directory.stat().st_mode & 0o7777
            if mode & 0o022:
                directory.chmod(mode & ~0o022)
        new = key.with_name(f"{key.name}.{os.getpid()}")
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{places.account()}@mesh", "-f", str(new)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        Path(f"{new}.pub").rename(public)
        new.rename(key)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"your key for the mesh cannot be made in {key.parent}: {error}") from None
    return key


def ssh(here: Here, key: Path, command: list[str]) -> list[str]:
    """The command that runs another in the mesh of this node, by one's own key and the cluster's authority alone."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "LogLevel": "ERROR",
        "ProxyCommand": shlex.join([sys.executable, "-I", str(here.programs / "mesh-run"), "door"]),
        "ProxyUseFdpass": "yes",
        "HostKeyAlias": str(here.node["node"]).lower(),
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(here.programs / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(key),
        "KexAlgorithms": str(here.node["kex"]),
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-T", "-F", "none", *words, "-l", here.account, str(here.node["node"]), shlex.join(command)]


def relay(here: Here, message: Mapping[str, Any]) -> int:
    """Have the mesh of this node do it, and be there until it has; returns its exit status.

    It ends when this ends, whatever ends it: the mesh sees that nobody is there any more. Ctrl-C is passed on.
    """
    key = ensure_key(here.home)
    argv = ssh(here, key, [sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), "head"])
    # In a session of its own, so that a Ctrl-C comes once, from here.
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    assert child.stdin
    told = child.stdin

    def stop(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(told.fileno(), f"{number}\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    with contextlib.suppress(OSError):
        told.write(json.dumps(message).encode() + b"\n")
        told.flush()
    code = child.wait()
    if code == 255:
        remedy = "see that the container gpustead-mesh runs on this node, and that your account has the mesh"
        print(f"mesh-run: the mesh of {here.node['node']} has not let us in, or is gone; {remedy}", file=sys.stderr)
    return code if code >= 0 else 128 - code


def door(here: Path = places.PROGRAMS) -> int:
    """For ssh (ProxyUseFdpass): connect to the door, and hand the connection over."""
    # On the node, what of the former lies in /run may be root's alone.
    sockets = [one / "socket" for one in (here / "door", *places.DOORS)]
    place = next(filter(os.path.exists, sockets), None)
    if place is None:
        print("mesh-run: the mesh of this node has no door here: its container does not run", file=sys.stderr)
        return 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(place))
        with socket.socket(fileno=os.dup(1)) as out:
            out.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))])
    return 0


class Told:
    """At the other end: the front's words, of which the first is the request and each other one a signal."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def request(self) -> dict[str, Any]:
        """Raises Refused for what is none."""
        data = b""
        while not data.endswith(b"\n"):
            more = os.read(self._descriptor, 1)
            if not more:
                break
            data += more
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise Refused("what was asked for did not arrive")
        return message

    def stopped(self) -> int:
        words = os.read(self._descriptor, 64).split()
        known = {int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP)}
        numbers = [int(word) for word in words if word.isdigit() and int(word) in known]
        # At its end nobody is there any more.
        return numbers[0] if numbers else int(signal.SIGHUP)
