"""The probes of GPUs: what is there and answers, and the settings that get lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe

UUID, MIG = "GPU-b4895dbf-9350-2524-a89b-98161ddd9fe4", "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde"
LISTED = f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {UUID})\n  MIG 3g.40gb     Device  0: (UUID: {MIG})\n"
LOST = "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost. Reboot the system to recover this GPU"


def host(root: Path, answers: dict[str, tuple[int, str, str]]) -> Host:
    def run(argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
        return answers.get(argv[1].partition("=")[0], (127, "", "not found"))

    for address, vendor, kind in (
        ("0000:02:00.0", "0x10de", "0x030200"),
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),
        ("0000:03:00.0", "0x1a03", "0x030000"),
    ):
        device = root / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    (root / "sys/bus/pci/devices/0000:01:00.0/driver").symlink_to("../../../../bus/pci/drivers/nvidia")
    return Host(root=str(root), run=run)


BUS = ["0000:01:00.0 nvidia", "0000:02:00.0 no driver"]
SEEN: dict[str, tuple[tuple[int, str, str] | None, dict[str, Any]]] = {
    "answers": ((0, LISTED, ""), {"bus": BUS, "listed": [UUID, MIG], "said": []}),
    "lost": ((15, LISTED, f"{LOST}\n"), {"bus": BUS, "listed": [UUID, MIG], "said": [LOST]}),
    "no nvidia-smi": (None, {"bus": BUS, "listed": [], "said": []}),
    "hangs": ((124, "", "nvidia-smi: did not end within 15 s"), {"error": "nvidia-smi: did not end within 15 s"}),
}


@pytest.mark.parametrize(("answer", "value"), SEEN.values(), ids=list(SEEN))
def test_gpus(tmp_path: Path, answer: tuple[int, str, str] | None, value: dict[str, Any]) -> None:
    there = host(tmp_path, {"-L": answer} if answer else {})
    assert observe([("gpus", {"name": "nvidia-smi"})], there) == {"gpus nvidia-smi": value}


def test_no_pci_bus(tmp_path: Path) -> None:
    found = observe([("gpus", {"name": "nvidia-smi", "sysfs": "/elsewhere"})], host(tmp_path, {}))
    assert found["gpus nvidia-smi"] == {"bus": [], "listed": [], "said": []}


ROWS = f"{UUID}, Enabled, 700.00 W\nGPU-2, Disabled, [N/A]\n"
SETTINGS: dict[str, tuple[tuple[int, str, str], dict[str, Any], dict[str, Any]]] = {
    "both": (
        (0, ROWS, ""),
        {"persistence": True, "limits": [UUID]},
        {f"{UUID} persistence": "Enabled", "GPU-2 persistence": "Disabled", f"{UUID} limit": "700.00 W"},
    ),
    "one that is left to others": (
        (0, ROWS, ""),
        {"persistence": True, "withheld": [UUID]},
        {"GPU-2 persistence": "Disabled"},
    ),
    "limits alone": ((0, ROWS, ""), {"limits": ["GPU-2"]}, {"GPU-2 limit": "[N/A]"}),
    "one does not answer": (
        (15, f"{UUID}, Enabled, 700.00 W\n{LOST}\n", ""),
        {"limits": [UUID]},
        {f"{UUID} limit": "700.00 W"},
    ),
    "none answers": (
        (18, "", "Failed to initialize NVML: Driver/library version mismatch\n"),
        {"persistence": True},
        {"error": "nvidia-smi ended with 18: Failed to initialize NVML: Driver/library version mismatch"},
    ),
}


@pytest.mark.parametrize(("answer", "options", "value"), SETTINGS.values(), ids=list(SETTINGS))
def test_settings(tmp_path: Path, answer: tuple[int, str, str], options: dict[str, Any], value: dict[str, Any]) -> None:
    there = host(tmp_path, {"--query-gpu": answer})
    assert observe([("gpu_settings", {"name": "nvidia-smi", **options})], there) == {"gpu_settings nvidia-smi": value}
