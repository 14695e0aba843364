# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""States of a GPU host, from answers that nvidia-smi really gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.nvidia_smi import count_pci_gpus, judge

ONE = "GPU-11111111-2222-3333-4444-555555555555"
TWO = "GPU-66666666-7777-8888-9999-aaaaaaaaaaaa"
LOST = "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost. Reboot the system"


@pytest.mark.parametrize(
    ("answer", "pci", "state", "uuids"),
    [
        (None, 0, "none", []),
        (None, 2, "unusable", []),
        ((0, f"0, {ONE}, NVIDIA L40S\n1, {TWO}, NVIDIA L40S\n", ""), 2, "ready", [ONE, TWO]),
        ((0, f"1, {TWO}, NVIDIA L40S\n0, {ONE}, NVIDIA L40S\n", ""), 2, "ready", [ONE, TWO]),
        ((0, f"0, {ONE}, NVIDIA Thor\n", ""), 0, "ready", [ONE]),  # Jetson: not on the PCI bus
        ((0, "0, [N/A], NVIDIA L40S\n", ""), 1, "unusable", []),
        ((0, f"0, {ONE}\n", ""), 1, "unusable", []),
        ((0, "", ""), 1, "unusable", []),
        ((0, "No devices were found\n", ""), 0, "none", []),
        ((6, "No devices were found\n", ""), 1, "unusable", []),
        (
            (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", ""),
            0,
            "unusable",
            [],
        ),
        (
            (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML version: 570.124", ""),
            1,
            "unusable",
            [],
        ),
        ((15, LOST, ""), 1, "unusable", []),
        ((0, f"0, {ONE}, NVIDIA L40S\n{LOST}\n", ""), 2, "unusable", []),
    ],
)
def test_judge(answer: tuple[int, str, str] | None, pci: int, state: str, uuids: list[str]) -> None:
    report = judge(answer, pci)
    assert (report.state, [gpu.uuid for gpu in report.gpus]) == (state, uuids)
    assert report.reason


def test_count_pci_gpus(tmp_path: Path) -> None:
    devices = [("0x10de", "0x030200"), ("0x10de", "0x030000"), ("0x10de", "0x040300"), ("0x1a03", "0x030000")]
    for number, (vendor, kind) in enumerate(devices):
        device = tmp_path / f"0000:0{number}:00.0"
        device.mkdir()
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert count_pci_gpus(tmp_path) == 2
    assert count_pci_gpus(tmp_path / "missing") == 0
