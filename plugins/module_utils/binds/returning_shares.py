# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shares that were away when a host booted: waited for, and what Docker could not start without them is started."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, TIMED_OUT, run

_ALL = "all shares are mounted"
NOTICE = "/run/motd.d/gpustead-shares"  # shown at each login, see pam_motd(8)
PAUSE = 10  # seconds between two attempts to mount
_MOUNTING = 120.0  # seconds; systemd ends it before, at x-systemd.mount-timeout
_ANSWERING = 20.0  # seconds for Docker to say what it has
_STARTING = 60.0  # seconds for it to start one


def away(binds: Iterable[Bind]) -> list[str]:
    """The shares of these places that are not mounted."""
    seen = mounts.mounted()
    roots = sorted({bind.root for bind in binds if bind.mounted})
    return [root for root in roots if root not in seen or seen[root].fstype == AUTOFS]


def wait(binds: Sequence[Bind]) -> None:
    """Mount these shares, however long that takes; what is waited for is said once, and at each login."""
    said: list[str] = []
    missing = away(binds)
    while missing:
        if missing != said:
            shares = ", ".join(missing)
            _say(f"waiting for {shares}")
            _show(f"The NAS does not answer for {shares}. What needs it here, workspaces too, starts when it does.\n")
            said = missing
        for root in missing:
            _call(["systemctl", "start", "--", root], _MOUNTING)
        missing = away(binds)
        if missing:
            time.sleep(PAUSE)
    if said:
        _say(_ALL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(NOTICE)


def start_containers(directory: str = DIRECTORY) -> None:
    """Start the containers that Docker could not, since what they bind was not there. Who stopped one wants it so."""
    states, started = ("--filter=status=exited", "--filter=status=created"), False
    for container in _call(["docker", "ps", "--all", "--quiet", "--no-trunc", *states], _ANSWERING).split():
        # One by one: there are containers for which Docker does not answer.
        found = _call(["docker", "inspect", "--format={{.Name}} {{.State.Error}}", container], _ANSWERING)
        name, _space, error = found.lstrip("/").partition(" ")
        if f"{directory}/" in error:
            _say(f"starting {name}")
            _call(["docker", "start", container], _STARTING)
            started = True
    if started:
        _say(_ALL)


def _say(what: str) -> None:
    """In the journal, and to all who ask `systemctl status`: only root reads the journal."""
    sys.stderr.write(f"{what}\n")
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
            manager.sendto(f"STATUS={what}".encode(), address.replace("@", "\0", 1))


def _show(text: str) -> None:
    os.makedirs(os.path.dirname(NOTICE), 0o755, exist_ok=True)
    with open(NOTICE, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(NOTICE, 0o644)


def _call(argv: Sequence[str], seconds: float) -> str:
    """What a command prints; nothing where it fails or does not end."""
    code, out, _err = run(argv, seconds)
    return "" if code in (NOT_FOUND, TIMED_OUT) else out
