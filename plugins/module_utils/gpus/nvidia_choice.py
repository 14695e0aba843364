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
# What makes another model of the one before it: an RTX 4090 D is no RTX 4090, an RTX 6000 Ada no (Quadro) RTX 6000.
_OTHER_MODEL = ("ti", "super", "d", "ada", "laptop")


def label(gpu: Mapping[str, Any]) -> str:
    """A GPU as people know it: ``GPU 0 (NVIDIA H100 80GB HBM3)``."""
    return f"GPU {gpu['index']} ({gpu.get('name') or gpu['uuid']})"


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _is_model(key: str, name: str) -> bool:
    """Whether `key` is whole words of the name, one after the other: A10 is no A100, and H200 no GH200."""
    model, words = _words(key), [*_words(name), ""]
    size = len(model)
    return any(
        words[at : at + size] == model and words[at + size] not in _OTHER_MODEL for at in range(len(words) - size)
    )


def check(variable: str, key: str) -> None:
    """Refuse a key that means no GPU of any host.

    Raises:
        GpusteadError: it is malformed.
    """
    if not _words(key) or (key.startswith("gpu:") and not _NUMBER.match(key)):
        raise GpusteadError(
            f"{variable}: the key {key!r}", "words of a model's name, a UUID or gpu:<number>", "Correct the key."
        )


def choose(variable: str, declared: Mapping[str, T], gpu: Mapping[str, Any]) -> T | None:
    """The value that `declared` has for a GPU; None where nothing is declared for it.

    A key is a UUID (``GPU-…``), a number (``gpu:0``), or whole words of the model's name (``A100``, ``A100-SXM4``), in
    any case and whatever parts them. A UUID or a number beats a model, and of two models the longer one wins.

    Args:
        variable: name of the setting, for messages.
        gpu: `index`, `uuid` and `name`, as gpu_info returns them.

    Raises:
        GpusteadError: a key is malformed, or two keys that mean this GPU say different things.
    """
    ranked: list[tuple[tuple[int, int], str]] = []
    for key in declared:
        check(variable, key)
        number = _NUMBER.match(key)
        if number:
            means, rank = int(number[1]) == gpu["index"], (1, 0)
        elif key.upper().startswith("GPU-"):
            means, rank = key.lower() == gpu["uuid"].lower(), (1, 0)
        else:
            means, rank = _is_model(key, gpu.get("name") or ""), (0, len(key))
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
