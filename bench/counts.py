# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many tasks a run of Ansible has executed, by Ansible's own sums rather than by what it printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from contestants import Contestant
from lab import HERE

# What was executed; a skipped task is not.
EXECUTED = ("ok", "failures", "unreachable")
Counts = Mapping[str, Mapping[str, int]]


def counting(contestant: Contestant, path: Path) -> Contestant:
    """The same contestant, one of Ansible's, which leaves its sums in a file."""
    plugin = {
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "run_counts",
        "BENCH_COUNTS": str(path),
    }
    return replace(contestant, env={**contestant.env, **plugin})


def read(path: Path) -> Counts:
    counts: Counts = json.loads(path.read_text())
    path.unlink()  # the next run must not be taken for this one
    return counts


def executed(counts: Counts, hosts: Iterable[str]) -> int:
    """Tasks on these hosts; one that runs once for all counts on the host that ran it."""
    return sum(counts[host][kind] for host in hosts if host in counts for kind in EXECUTED)


def changed(counts: Counts) -> int:
    """Tasks that changed something, on all hosts."""
    return sum(of_host["changed"] for of_host in counts.values())
