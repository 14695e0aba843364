# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node has for containers: the image and the GPUs that other roles left for them, and what is there itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system

# Without gpus.json there is no GPU for containers, and whether there is InfiniBand is not known.
NO_GPUS: Mapping[str, Any] = {
    **{"state": "none", "driver": None, "device_ids": [], "uuids": [], "device_nodes": [], "slots": 0},
    **{"nics": [], "infiniband": None, "driver_version": None, "gpus": []},
}


@dataclass(frozen=True)
class Offer:
    """What a node has for containers.

    Attributes:
        image: the one that role images left for them; empty where it left none.
        gpus: the content of gpus.json, which role nvidia leaves; None where there is no such file.
        infiniband: whether the devices of InfiniBand are there.
        machine_id: of the node.
    """

    image: str
    gpus: Mapping[str, Any] | None
    infiniband: bool
    machine_id: str


def observe(image_file: str, gpus_file: str, system: str = "/") -> Offer:
    """Look at a node, whose root directory `system` is.

    Raises:
        GpusteadError: a file cannot be read, or is damaged.
    """
    gpus = _read(gpus_file)
    return Offer(
        image=(_read(image_file) or "").strip(),
        gpus=None if gpus is None else _parse(gpus, gpus_file),
        infiniband=os.path.exists(os.path.join(system, "dev/infiniband")),
        machine_id=(_read(os.path.join(system, "etc/machine-id")) or "").strip(),
    )


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problem = error if isinstance(error, OSError) else OSError(f"no text: {error}")
        raise of_system(problem, path) from error


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
        if not isinstance(found, dict):
            raise ValueError("no dictionary")
    except ValueError as error:
        raise GpusteadError(f"{path} is damaged ({error})", "what role nvidia wrote", "Run role nvidia.") from error
    return {**NO_GPUS, **found}
