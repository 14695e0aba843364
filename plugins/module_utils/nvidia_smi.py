# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nvidia-smi and the PCI bus say about the GPUs of a host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

QUERY = ("--query-gpu=index,uuid,name", "--format=csv,noheader")

_UUID = re.compile(r"(GPU|MIG)-[0-9a-fA-F-]{36}")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True)
class Gpu:
    index: int
    uuid: str
    name: str


@dataclass(frozen=True)
class GpuReport:
    """`state` is none (no GPU), ready (all answer) or unusable (there, but without a working driver)."""

    state: str
    gpus: tuple[Gpu, ...]
    reason: str


def parse_query(text: str) -> tuple[Gpu, ...]:
    """Read the answer to QUERY, in the order of the index (GPUs can come out of order)."""
    gpus = []
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",", 2)]
        if len(fields) != 3 or not fields[0].isdigit() or not _UUID.fullmatch(fields[1]):
            raise GpusteadError(
                f"nvidia-smi printed {line.strip()!r}",
                "a line 'index, uuid, name' for each GPU",
                "Run nvidia-smi on the host and repair its driver.",
            )
        gpus.append(Gpu(int(fields[0]), fields[1], fields[2]))
    return tuple(sorted(gpus, key=lambda gpu: gpu.index))


def count_pci_gpus(devices: Path = Path("/sys/bus/pci/devices")) -> int:
    """NVIDIA display devices on the PCI bus, with or without a driver."""
    return sum(
        1
        for vendor in devices.glob("*/vendor")
        if vendor.read_text().strip() == _NVIDIA and (vendor.parent / "class").read_text().startswith(_DISPLAY_CLASS)
    )


def judge(answer: tuple[int, str, str] | None, pci_gpus: int) -> GpuReport:
    """Decide from the answer of nvidia-smi (None: not installed) and the devices on the bus.

    A GPU without a working driver is never "no GPU": someone paid for it and waits for it.
    """
    on_bus = f"{pci_gpus} NVIDIA display device(s) on the PCI bus"
    if answer is None:
        return GpuReport("unusable" if pci_gpus else "none", (), f"{on_bus}, nvidia-smi is not installed")
    code, out, err = answer
    words = " ".join((out + " " + err).split())
    if words == "No devices were found":
        return GpuReport("unusable" if pci_gpus else "none", (), f"{on_bus}, nvidia-smi found none")
    if code != 0 or not words:
        return GpuReport("unusable", (), f"nvidia-smi exited with {code}: {words or 'no output'}")
    try:
        gpus = parse_query(out)
    except GpusteadError as error:
        return GpuReport("unusable", (), str(error))
    return GpuReport("ready", gpus, f"{len(gpus)} GPU(s) answer")
