# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a site declares for GPUs by model, by number or by UUID, and which of it is meant for one GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

T = TypeVar("T")

_NUMBER = re.compile(r"gpu:(\d{1,9})\Z", re.ASCII)


def label(gpu: Mapping[str, Any]) -> str:
    """A GPU as people know it: ``GPU 0 (NVIDIA H100 80GB HBM3)``."""
    return f"GPU {gpu['index']} ({gpu.get('name') or gpu['uuid']})"


def choose(variable: str, declared: Mapping[str, T], gpu: Mapping[str, Any]) -> T | None:
    """The value that `declared` has for a GPU; None where nothing is declared for it.

    A key is a UUID (``GPU-…``), a number (``gpu:0``), or a part of the model's name (``A100``), in any case. A UUID or
    a number beats a model, and of two models the longer one wins.

    Args:
        variable: name of the setting, for messages.
        gpu: `index`, `uuid` and `name`, as gpu_info returns them.

    Raises:
        GpusteadError: a key is malformed, or two keys that mean this GPU say different things.
    """
    ranked: list[tuple[tuple[int, int], str]] = []
    for key in declared:
        number = _NUMBER.match(key)
        if not key or (key.startswith("gpu:") and not number):
            raise GpusteadError(
                f"{variable}: the key {key!r}", "a part of a model's name, a UUID or gpu:<number>", "Correct the key."
            )
        if number:
            means, rank = int(number[1]) == gpu["index"], (1, 0)
        elif key.upper().startswith("GPU-"):
            means, rank = key.lower() == gpu["uuid"].lower(), (1, 0)
        else:
            means, rank = key.lower() in (gpu.get("name") or "").lower(), (0, len(key))
        if means:
            ranked.append((rank, key))
    if not ranked:
        return None
    best = [key for rank, key in ranked if rank == max(ranked)[0]]
    if any(declared[key] != declared[best[0]] for key in best):
        raise GpusteadError(
            f"{variable}: {' and '.join(map(repr, best))} mean {label(gpu)} and say different things",
            "one of them",
            "Remove the others, or give the GPU's UUID.",
        )
    return declared[best[0]]
