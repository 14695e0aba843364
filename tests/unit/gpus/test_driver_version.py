"""Versions of the driver, in texts and of its kernel module."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.driver_version import KernelModule, parse_module
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import parse_log
from ansible_collections.gpustead.cluster.tests.unit import smi_xml
from ansible_collections.gpustead.cluster.tests.unit.captures import capture


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("590.48.01", "590.48.01"),
        ("610.57.04 [Deprecated: use kmd_version]", "610.57.04"),
        ("610.57.04[Deprecated]", "610.57.04"),
        ("N/A", None),
        ("Not Found", None),
        ("", None),
    ],
)
def test_version(written: str, version: str | None) -> None:
    log = parse_log(smi_xml.log(driver=written, cuda=written))
    assert (log.driver_version, log.cuda_version) == (version, version)


MODULES = {
    capture("proc-driver-version/debian-520"): KernelModule("520.56.06", "proprietary"),
    capture("proc-driver-version/mismatch-580"): KernelModule("580.173.02", "proprietary"),
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)": KernelModule(
        "580.95.05", "open"
    ),
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  TempVersion  Release Build": KernelModule(None, "open"),
    "": KernelModule(None, None),
}


@pytest.mark.parametrize(("text", "module"), MODULES.items())
def test_module(text: str, module: KernelModule) -> None:
    assert parse_module(text) == module
