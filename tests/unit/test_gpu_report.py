"""States of a host with GPUs, from answers that nvidia-smi really gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpu_report import observe


@pytest.mark.parametrize("smi", [None, "/usr/bin/nvidia-smi"])
def test_a_host_without_a_gpu(tmp_path: Path, smi: str | None) -> None:
    report = observe(lambda argv: (6, "No devices were found\n", ""), smi, tmp_path, tmp_path)
    assert (report.state, report.reason, report.remedy, report.gpus) == ("none", None, None, ())
