# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs on a node that somebody would miss: runs of mesh-run, and processes that use a GPU; and their end.

What computes on CPUs in a workspace, or was started by hand in the mesh, is not among it: nobody could tell it from an
editor.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import is_in_container
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import User
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import MESH_PROJECT
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, Run, must
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Root of the mesh's container.
_MESH_RUN = ("docker", "exec", "--user", "0:0", MESH_PROJECT, "mesh-run")
_AWAY = ("No such container", "is not running")
_GRACE = 10.0  # seconds from asking a process to end to ending it


@dataclass(frozen=True)
class NodeRun:
    """A run of which a part is on this node."""

    id: str
    account: str
    nodes: tuple[str, ...]
    command: str

    def __str__(self) -> str:
        return f"run {self.id} of {self.account} on {', '.join(self.nodes)}: {self.command}"


@dataclass(frozen=True)
class NodeWork:
    """What runs.

    Attributes:
        runs: of mesh-run, of all accounts.
        users: processes that use a GPU; without services of the host.
        unknown: accounts whose runs could not be asked for, and why.
    """

    runs: Sequence[NodeRun] = ()
    users: Sequence[User] = ()
    unknown: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Each in a line."""
        return [*map(str, self.runs), *(f"process {user} uses a GPU" for user in self.users), *self.unknown]


def observe(run: Run, users: Callable[[], Sequence[User]], proc: Path = Path("/proc")) -> NodeWork:
    """Look what runs.

    Args:
        run: runs docker.
        users: looks who uses the GPUs.

    Raises:
        GpusteadError: the mesh does not answer, or is of an earlier release.
    """
    using = [user for user in users() if user.account != "root" or is_in_container(proc, user.pid)]
    code, out, err = run([*_MESH_RUN, "ps-here", "--of-all"])
    if code == NOT_FOUND or (code and any(word in err for word in _AWAY)):
        return NodeWork(users=using)
    said = _lines(out)
    if code or {"end": True} not in said:
        what = f"the mesh's container does not say what runs ({shown(err.strip() or 'it is of an earlier release')})"
        raise GpusteadError(what, "its runs", "Run site.yml for this node, and see docker logs gpustead-mesh.")
    unknown = [shown(f"{one['account']}: {one['error']}") for one in said if "error" in one]
    return NodeWork([found for found in map(_run, said) if found], using, unknown)


def _lines(out: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for line in out.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            found += [value] if isinstance(value, dict) else []
    return found


def _run(said: Mapping[str, Any]) -> NodeRun | None:
    """Its account wrote it, but for its own name."""
    try:
        words = " ".join(map(str, said["command"]))
        nodes = tuple(shown(node, 80) for node in said["nodes"])
        return NodeRun(shown(said["id"], 80), shown(said["account"], 80), nodes, shown(words, 100))
    except (LookupError, TypeError):
        return None


def end(run: Run, users: Callable[[], Sequence[User]], proc: Path = Path("/proc")) -> NodeWork:
    """End it: the runs on all their nodes, and the processes. What was there; what still is, `observe` says afterwards.

    Raises:
        GpusteadError: the mesh does not answer.
    """
    found = observe(run, users, proc)
    if found.runs or found.unknown:
        must(run, [*_MESH_RUN, "stop-here", "--of-all"], remedy="See docker logs gpustead-mesh.")
    if found.users:
        _end_all([user.pid for user in found.users], users)
    return found


def _end_all(pids: Sequence[int], users: Callable[[], Sequence[User]]) -> None:
    held: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            held[pid] = os.pidfd_open(pid)
    try:
        # A number may have been another's by then, and what is held cannot be.
        using = {user.pid for user in users()}
        for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 1.0)):
            for pid in held.keys() & using:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], number)
            _await([held[pid] for pid in held.keys() & using], seconds)
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _await(held: Sequence[int], seconds: float) -> None:
    """Until all of these processes have ended, or the time is up."""
    deadline = time.monotonic() + seconds
    for descriptor in held:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
