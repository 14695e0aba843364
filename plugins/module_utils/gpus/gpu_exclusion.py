# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GPUs that a site keeps from containers: a card for displays, one that is out of order, one that is for others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_choice import choose
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import Gpu

VARIABLE = "nvidia_exclude"
EXCLUDED = "excluded"

# Numbers without gpu:, and what YAML makes of an address without quotation marks (01:00.0 is 60.0).
_NUMBER = re.compile(r"[0-9]{1,2}|[0-9]+\.[0-9]+")


def check(names: Iterable[str]) -> None:
    """Refuse names that mean no GPU of any host.

    Raises:
        GpusteadError: one of them.
    """
    for name in names:
        if not name.strip() or _NUMBER.fullmatch(name) or name.upper().startswith("MIG-"):
            raise GpusteadError(
                f"{VARIABLE}: {name!r}",
                "a model, the UUID of a GPU, gpu:<number>, or its address on the PCI bus in quotation marks",
                "Correct it.",
            )
        is_excluded([name], None, None)


def is_excluded(
    names: Iterable[str], index: int | None, address: str | None, uuid: str = "", name: str | None = None
) -> bool:
    """Whether one of the names means the GPU of which so much is known.

    Args:
        names: addresses on the PCI bus, and what `nvidia_choice.choose` takes.
        address: as `pci.address` writes it.

    Raises:
        GpusteadError: one of the names is malformed.
    """
    addresses = {one: pci.address(one) for one in names}
    others = {one.lower(): True for one in names if addresses[one] is None}
    by_address = address is not None and address in addresses.values()
    return by_address or bool(choose(VARIABLE, others, {"index": index, "uuid": uuid, "name": name}))


def withheld(names: Iterable[str], gpu: Gpu) -> str | None:
    """Why containers do not get a GPU; None where nothing keeps it from them."""
    excluded = is_excluded(names, gpu.index, gpu.pci_address, gpu.uuid, gpu.name)
    return EXCLUDED if excluded else gpu.withheld
