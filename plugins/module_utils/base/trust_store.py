# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The system's bundle of trusted authorities: what it lacks, and when it is made anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import must

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PROGRAM = "update-ca-certificates"
_READABLE = {"mode": "0644", "owner": "0:0"}


@dataclass(frozen=True)
class Plan:
    """What is to be done: a command that makes the bundle anew, or none; whether its permissions are put right.

    `reasons` are what is the matter with it.
    """

    command: tuple[str, ...]
    is_closed: bool
    reasons: tuple[str, ...]


def plan(files: Sequence[str], anew: bool, bundle: dict[str, Any] | None, trusted: dict[str, Any]) -> Plan:
    """What is to be done about the bundle.

    Args:
        files: of authorities that it must hold.
        anew: whether files have come or gone of which it may not know.
        bundle: what a probe sees of the bundle itself; None where it is not there.
        trusted: of each file whether the bundle holds it.
    """
    lacks = tuple(f"it lacks {file}" for file in files if not trusted.get(file))
    gone = ("it is not there",) if bundle is None else ()
    changed = ("authorities have changed",) if anew else ()
    is_closed = bundle is not None and any(bundle.get(name, value) != value for name, value in _READABLE.items())
    closed = ("not everybody can read it",) if is_closed else ()
    # Else what was removed keeps its link in the store.
    fresh = (_PROGRAM, "--fresh") if anew else ()
    return Plan(
        fresh or ((_PROGRAM,) if lacks or gone else ()), is_closed, (*changed, *(() if gone else lacks), *gone, *closed)
    )


def observe_and_plan(files: Sequence[str], anew: bool, host: Host) -> Plan:
    """The same of what is there now."""
    seen = observe(
        [("file", {"name": BUNDLE, "content": False}), ("contains", {"name": BUNDLE, "files": list(files)})], host
    )
    held = seen[f"contains {BUNDLE}"] or {}
    return plan(files, anew, seen[f"file {BUNDLE}"], held.get("trusted", {}))


def apply(todo: Plan, host: Host) -> None:
    """Make the bundle anew, and readable for everybody. Raises GpusteadError, or OSError."""
    if todo.command:
        must(host.run, todo.command, 300)
    if todo.command or todo.is_closed:
        path = host.path(BUNDLE)
        os.chown(path, 0, 0)
        os.chmod(path, 0o644)
