"""What errors of nvidia-smi mean, as real ones print them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_smi_errors
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import Lost
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, run
from ansible_collections.gpustead.cluster.tests.unit.captures import capture

MEANINGS = {
    "command-not-found-bash": "not_installed",
    "container-lost-gpu-unknown-error": "cut_off",
    "couldnt-communicate": "not_loaded",
    "device-handle-unknown-error-new": "gpu_lost",
    "device-handle-unknown-error-old": "gpu_lost",
    "docker-cdi-mode-needs-runtime": None,
    "docker-exec-not-found-in-path": "not_installed",
    "driver-library-mismatch": "version_mismatch",
    "driver-library-mismatch-570-two-lines": "version_mismatch",
    "gpu-is-lost": "gpu_lost",
    "gpu-is-lost-wrapped-windows": "gpu_lost",
    "no-devices-found-rtx5090-kernel-log": "no_devices",
    "no-devices-found-rtx5090-rebar": "no_devices",
}


@pytest.mark.parametrize(("name", "meaning"), MEANINGS.items(), ids=list(MEANINGS))
def test_meaning_of_captures(name: str, meaning: str | None) -> None:
    assert nvidia_smi_errors.meaning(capture(f"smi-error/{name}")) == meaning


@pytest.mark.parametrize(
    ("words", "status", "meaning"),
    [
        ("NVIDIA-SMI has failed because it couldn\u2019t communicate with the NVIDIA driver.", 9, "not_loaded"),
        ("Failed to initialize NVML: Driver Not Loaded", 9, "not_loaded"),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12, "not_installed"),
        ("NVRM: API mismatch: the client has the version 570.124", 1, "version_mismatch"),
        ("Failed to initialize NVML: Insufficient Permissions", 4, "denied"),
        ("[Errno 13] Permission denied: '/opt/nvidia-smi'", 127, "denied"),
        ("Failed to initialize NVML: GPU access blocked by the operating system", 17, "cut_off"),
        ("", 9, "not_loaded"),
        ("", 12, "not_installed"),
        ("", 15, "gpu_lost"),
        ("", 127, "not_installed"),
        ("", 139, None),
    ],
)
def test_meaning(words: str, status: int, meaning: str | None) -> None:
    assert nvidia_smi_errors.meaning(words, status) == meaning


LOST = {
    "GPU 0000:09:00.0: Unknown Error": Lost(None, "0000:09:00.0"),
    "GPU0000:07:00.0: Unknown Error": Lost(None, "0000:07:00.0"),
    "GPU3: 0000:5F:00.0: Unknown Error": Lost(3, "0000:5f:00.0"),
    "GPU2: Unknown Error": Lost(2, None),
    "GPU\n 0000:02:00.0: GPU is lost.  Reboot\n the system": Lost(None, "0000:02:00.0"),
    "GPU0": Lost(0, None),
}


@pytest.mark.parametrize(("words", "lost"), LOST.items())
def test_lost(words: str, lost: Lost) -> None:
    assert nvidia_smi_errors.lost_gpus(f"Unable to determine the device handle for {words}\n") == (lost,)


@pytest.mark.parametrize(
    ("mode", "meaning"), [(None, "not_installed"), (0o644, "denied")], ids=["missing", "not executable"]
)
def test_what_it_means_that_nvidia_smi_does_not_start(tmp_path: Path, mode: int | None, meaning: str) -> None:
    command = tmp_path / "nvidia-smi"
    if mode:
        command.touch(mode)
    status, out, err = run([str(command)])
    assert (status, out) == (NOT_FOUND, "")
    assert nvidia_smi_errors.meaning(err, status) == meaning
