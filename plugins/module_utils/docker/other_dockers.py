# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dockers beside root's: the one from Snap, and the rootless ones that accounts run.

Whatever lies in /run/user/<uid> is the account's: a socket there proves nothing, so it is asked, as the account.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import names as names_of
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

SNAP = "/snap/bin/docker"
RUNTIME = "/run/user"  # of logind, which makes a directory for each account that is logged in
_TIMEOUT, _ALL = 2, 20  # seconds that each account's socket has, and all of them
_SIZE = 1 << 20  # bytes that it may say
_REQUEST = b"GET /info HTTP/1.0\r\nHost: docker\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Rootless:
    """A daemon that answered as a rootless one: whose it is, where, and its version as it says."""

    uid: int
    account: str
    socket: str
    version: str

    def __str__(self) -> str:
        return f"'{self.account}' runs a rootless Docker {self.version} at {self.socket}"


@dataclass(frozen=True)
class Others:
    """What is there beside root's Docker."""

    snap: bool
    rootless: tuple[Rootless, ...]


def observe(root: Path = Path("/")) -> Others:
    """Look at a host. `root` stands before each path."""
    places = list(_places(root / RUNTIME.lstrip("/")))
    names = names_of((root / "etc/passwd").read_text(errors="replace"))
    end = time.monotonic() + _ALL
    # One after the other: a process with threads must not fork. Who comes too late is not warned of.
    answers = [_ask(place) if time.monotonic() < end else None for place in places]
    found = [
        Rootless(who.uid, names.get(who.uid, f"uid {who.uid}"), f"{RUNTIME}/{who.uid}/docker.sock", version)
        for (who, _second), version in zip(places, answers)
        if version is not None
    ]
    return Others((root / SNAP.lstrip("/")).exists(), tuple(found))


def _places(runtime: Path) -> Iterator[tuple[as_account.Identity, str]]:
    """Each account's directory, with the ids that it belongs to. Names that are no number are nobody's."""
    try:
        entries = sorted(os.scandir(runtime), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # the account has logged out, or has mounted something of its own there
            continue
        if entry.name.isdecimal() and stat.S_ISDIR(status.st_mode) and status.st_uid == int(entry.name) > 0:
            yield as_account.Identity(status.st_uid, status.st_gid), entry.path


def _ask(place: tuple[as_account.Identity, str]) -> str | None:
    """The version of the rootless daemon there; None for all else, whatever it is."""
    who, directory = place
    try:
        said = as_account.run(
            lambda: _info(directory), who, timeout=_TIMEOUT, size=4 * _SIZE, place=f"{directory}/docker.sock"
        )
    except (GpusteadError, OSError):
        return None
    return rootless_version(said)


def _info(directory: str) -> str:
    """What the daemon answers, as the account: it connects to nothing that the account could not."""
    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(_TIMEOUT)
        link.connect(f"{directory}/docker.sock")
        link.sendall(_REQUEST)
        while len(data) <= _SIZE:
            part = link.recv(1 << 16)
            if not part:
                break
            data += part
    return data[:_SIZE].decode(errors="replace")


def rootless_version(answer: str) -> str | None:
    """The version in an answer to /info, where it is one of a rootless daemon."""
    head, _separator, body = answer.partition("\r\n\r\n")
    if not re.match(r"HTTP/1\.[01] 200\b", head):
        return None
    try:
        info: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    options = info.get("SecurityOptions") if isinstance(info, dict) else None
    if not isinstance(options, list) or "name=rootless" not in options:
        return None
    version = str(info.get("ServerVersion"))
    return version if re.fullmatch(r"[0-9A-Za-z.+~-]{1,40}", version) else "of an unknown version"
