# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nvidia-smi says beside its answers: errors, and GPUs that it has lost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import Gpu, Lost
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND

# GPU3: 0000:5F:00.0, GPU 0000:09:00.0, GPU0000:07:00.0, GPU2
_LOST_LINE = re.compile(
    r"device\s+handle\s+for\s+GPU\s*(?:([0-9]{1,3})(?::|(?=\s|$)))?"
    r"\s*([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F])?"
)


def lost_gpus(text: str) -> tuple[Lost, ...]:
    """The GPUs of which nvidia-smi says that it cannot get at them; it says so and may exit with 0."""
    return tuple(
        Lost(int(line[1]) if line[1] else None, pci.address(line[2] or "")) for line in _LOST_LINE.finditer(text)
    )


# WARNING: infoROM is corrupted at gpu 0000:18:00.0
_INFOROM = re.compile(r"inforom is corrupted at gpu\s+([0-9a-f:.]{7,16})", re.IGNORECASE)


def with_warnings(gpus: Iterable[Gpu], text: str) -> tuple[Gpu, ...]:
    """The GPUs with what nvidia-smi says of one beside its log: that it works, and nobody knows its past errors."""
    corrupted = {pci.address(address) for address in _INFOROM.findall(text)}
    problem = "Its infoROM is corrupted, where errors are counted."
    return tuple(
        replace(gpu, problems=(*gpu.problems, problem)) if gpu.pci_address in corrupted - {None} else gpu
        for gpu in gpus
    )


# Words of nvidia-smi, NVML, the kernel's log, shells and Docker, and what they mean; the first that fits counts.
_MEANINGS = (
    (r"driver/library version mismatch|api mismatch", "version_mismatch"),
    (r"gpu is lost|device handle for gpu|fallen off the bus|gpu requires reset", "gpu_lost"),
    (r"couldn.{1,3}t communicate with the nvidia driver|driver not loaded", "not_loaded"),
    (r"no devices were found|rm_?init_?adapter failed", "no_devices"),
    (r"insufficient permissions|permission denied", "denied"),
    (r"failed to initialize nvml: unknown error|blocked by the operating system", "cut_off"),
    (r"command not found|not found in \$path|no such file|couldn.{1,3}t find libnvidia-ml", "not_installed"),
)
# Of a tool that said nothing that is known; from "Return value" in nvidia-smi(1), and those of shells.
_STATUSES = {9: "not_loaded", 12: "not_installed", 15: "gpu_lost", 126: "denied", NOT_FOUND: "not_installed"}


def meaning(text: str, status: int = 1) -> str | None:
    """What an error says: a reason of GpuReport, ``denied`` or ``cut_off``; None for what is not known."""
    words = " ".join(text.lower().split())
    said = next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, words)), None)
    return said or _STATUSES.get(status)
