"""Compute capabilities by name and architecture."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_capability import (
    compute_capability,
    is_asked,
    parse_query,
)

# Name, architecture, capability: every row of NVIDIA's table that is on sale or in the captures.
CAPABILITIES = [
    ("NVIDIA GeForce RTX 3080", "Ampere", "8.6"),
    ("NVIDIA GeForce RTX 2050", "Ampere", "8.6"),
    ("NVIDIA RTX A6000", "Ampere", "8.6"),
    ("NVIDIA A10G", "Ampere", "8.6"),
    ("NVIDIA A40-48Q", "Ampere", "8.6"),
    ("NVIDIA A100-SXM4-80GB", "Ampere", "8.0"),
    ("NVIDIA A100 80GB PCIe", "Ampere", "8.0"),
    ("GRID A100X-40C", "Ampere", "8.0"),
    ("GRID A100D-40C", "Ampere", "8.0"),
    ("NVIDIA A30", "Ampere", "8.0"),
    ("NVIDIA PG509-210", "Ampere", "8.0"),
    ("NVIDIA DGX Display", "Turing", "7.5"),
    ("NVIDIA GeForce RTX 4080 SUPER", "Ada Lovelace", "8.9"),
    ("NVIDIA L40S", "Ada Lovelace", "8.9"),
    ("NVIDIA L4", None, "8.9"),
    ("NVIDIA RTX 6000 Ada Generation", None, "8.9"),
    ("NVIDIA RTX 5000 Ada Generation", "Ada Lovelace", "8.9"),
    ("NVIDIA RTX 4000 SFF Ada Generation", None, "8.9"),
    ("NVIDIA H100 80GB HBM3", "Hopper", "9.0"),
    ("NVIDIA H200", "Hopper", "9.0"),
    ("NVIDIA GH200 480GB", None, "9.0"),
    ("NVIDIA H20", None, "9.0"),
    ("NVIDIA H100XM-80C", None, "9.0"),  # a vGPU of one with SXM
    ("NVIDIA H200X-141C", None, "9.0"),
    ("NVIDIA B200", "Blackwell", "10.0"),
    ("NVIDIA GB200", "Blackwell", "10.0"),
    ("NVIDIA B300 SXM6 AC", "Blackwell", "10.3"),
    ("NVIDIA Thor", "Blackwell", "11.0"),
    ("NVIDIA GB10", "Blackwell", "12.1"),
    ("NVIDIA GeForce RTX 5090", "Blackwell", "12.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "Blackwell", "12.0"),
    ("NVIDIA GeForce RTX 5050", "Blackwell", "12.0"),
    ("NVIDIA RTX PRO 4500", None, "12.0"),
    ("Tesla V100-SXM2-32GB", "Volta", "7.0"),
    ("Tesla T4", "Turing", "7.5"),
    ("Tesla T10", None, "7.5"),
    ("NVIDIA T1000", "Turing", "7.5"),
    ("Quadro RTX 8000", "Turing", "7.5"),
    ("Quadro RTX 5000 with Max-Q Design", "Turing", "7.5"),
    ("Quadro RTX 4000", None, "7.5"),
    ("Quadro RTX 3000", None, "7.5"),
    ("NVIDIA GeForce GTX 1660 Ti", "Turing", "7.5"),
    ("Tesla P100-PCIE-16GB", "Pascal", "6.0"),
    ("Tesla P40", "Pascal", "6.1"),
    ("GeForce GTX 1070", None, "6.1"),
    ("GeForce GTX TITAN X", None, "5.2"),
    ("NVIDIA TITAN X (Pascal)", None, "6.1"),
    ("Tesla K80", None, "3.7"),
    ("Orin (nvgpu)", None, "8.7"),
    ("Graphics Device", "Hopper", "9.0"),
    ("Graphics Device", "Ampere", None),
    ("Graphics Device", None, None),
    ("NVIDIA B9000", "Feynman", None),
    (None, "Turing", "7.5"),
]


@pytest.mark.parametrize(("name", "architecture", "capability"), CAPABILITIES)
def test_compute_capability(name: str | None, architecture: str | None, capability: str | None) -> None:
    assert compute_capability(name, architecture) == capability


ANSWERS = {
    "all": ("uuid, compute_cap\nGPU-1, 8.0\nGPU-2, 12.1\n", {"GPU-1": "8.0", "GPU-2": "12.1"}),
    "of some": ("uuid, compute_cap\nGPU-1, [N/A]\nGPU-2, [Unknown Error]\nGPU-3, 9.0\r\n", {"GPU-3": "9.0"}),
    "a lost one": ("Unable to determine the device handle for GPU1: Unknown Error\nGPU-2, 8.6", {"GPU-2": "8.6"}),
    "an old driver": ('Field "compute_cap" is not a valid field to query.\n\n', {}),
    "no driver": ("Failed to initialize NVML: Driver/library version mismatch\n", {}),
    "none": ("", {}),
    "zero": ("GPU-1, 0.0\n", {}),
    "too much": ("GPU-1, 8.0, 9\nGPU-2, eight\n", {}),
}


@pytest.mark.parametrize(("text", "capabilities"), ANSWERS.values(), ids=list(ANSWERS))
def test_what_the_driver_says(text: str, capabilities: dict[str, str]) -> None:
    assert parse_query(text) == capabilities


@pytest.mark.parametrize(("driver", "asked"), [("510.39.01", True), ("470.256.02", False), ("61", False), (None, True)])
def test_which_driver_is_asked(driver: str | None, asked: bool) -> None:
    assert is_asked(driver) == asked
