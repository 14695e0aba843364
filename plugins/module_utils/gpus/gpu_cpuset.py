# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The CPUs and memory nodes near some GPUs, in the kernel's list syntax: what Docker's `cpuset` options take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# More than any kernel is built for (NR_CPUS is 8192 at most): a typing error must not fill the memory.
_HIGHEST = 65535
_ENTRY = re.compile(r"(\d+)(?:-(\d+))?\Z")


@dataclass(frozen=True)
class Cpuset:
    """`cpus` such as "0-31,64-95" and `mems` such as "0,1". None: not known of some GPU, do not pin."""

    cpus: str | None
    mems: str | None


def parse_list(text: str) -> frozenset[int]:
    """Numbers of a list such as "0-3,8" (cpuset(7), list format).

    Raises:
        GpusteadError: it is no such list.
    """
    numbers: set[int] = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        found = _ENTRY.match(entry)
        first, last = (int(found.group(1)), int(found.group(2) or found.group(1))) if found else (1, 0)
        if not first <= last <= _HIGHEST:
            raise GpusteadError(
                f"{entry!r} in the list {text[:200]!r}", "numbers and ranges such as 0-31,64-95", "Correct the list."
            )
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def format_list(numbers: Iterable[int]) -> str:
    """The shortest list of the numbers."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def gpu_cpuset(gpus: Sequence[Mapping[str, Any]], wanted: Iterable[int | str] | None = None) -> Cpuset:
    """What is near the wanted GPUs, together.

    Args:
        gpus: those of a host, as gpu_info returns them.
        wanted: their indexes or UUIDs; a MIG instance stands for its GPU. None: all.

    Raises:
        GpusteadError: one of `wanted` is not a GPU of the host.
    """
    chosen = list(gpus) if wanted is None else [gpu for name in wanted for gpu in _named(gpus, name)]
    cpus = [parse_list(gpu.get("cpus") or "") for gpu in chosen]
    nodes = [frozenset(gpu.get("numa_nodes") or ()) for gpu in chosen]
    return Cpuset(_union(cpus), _union(nodes))


def _names(gpu: Mapping[str, Any]) -> list[str]:
    instances = (gpu.get("mig") or {}).get("instances") or ()
    return [str(gpu["index"]), gpu["uuid"], *(instance["uuid"] for instance in instances if instance.get("uuid"))]


def _named(gpus: Sequence[Mapping[str, Any]], name: int | str) -> list[Mapping[str, Any]]:
    found = [gpu for gpu in gpus if str(name) in _names(gpu)]
    if not found:
        known = ", ".join(f"{gpu['index']} ({gpu['uuid']})" for gpu in gpus)
        raise GpusteadError(f"GPU {name}", f"one of {known or 'no GPU at all'}", "Take an index or a UUID of these.")
    return found


def _union(parts: Sequence[frozenset[int]]) -> str | None:
    """None where one part is not known: the others alone would keep the container away from it."""
    return format_list(frozenset().union(*parts)) if parts and all(parts) else None
