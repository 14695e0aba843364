"""The list of nvidia-smi, as real ones print it."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_smi_list
from ansible_collections.gpustead.cluster.tests.unit.captures import capture, captures

# Name of the capture; of the last GPU its index and name; profiles of its MIG devices.
LISTS = {
    "l40s": (0, "NVIDIA L40S", []),
    "insights-mixed-t1000-v100": (1, "Tesla V100-PCIE-16GB", []),
    "a100-40gb-mig-on-gpu5-partial": (5, "NVIDIA A100-SXM4-40GB", ["1g.5gb"] * 4),
    "h100-mig-mixed-realuuid": (0, "NVIDIA H100 80GB HBM3", ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]),
    "h200-mig": (0, "NVIDIA H200", ["1c.3g.71gb", "2c.3g.71gb", "2g.35gb", "1g.18gb", "1g.18gb"]),
}


@pytest.mark.parametrize(("name", "index", "product", "profiles"), [(k, *v) for k, v in LISTS.items()], ids=list(LISTS))
def test_list(name: str, index: int, product: str, profiles: list[str]) -> None:
    gpu = nvidia_smi_list.parse_list(capture(f"smi-L/{name}"))[-1]
    assert (gpu.index, gpu.name, [mig.profile for mig in gpu.mig]) == (index, product, profiles)
    assert [mig.position for mig in gpu.mig] == list(range(len(profiles)))
    assert all(mig.uuid.startswith("MIG-") for mig in gpu.mig)


@pytest.mark.parametrize("text", captures("smi-L"))
def test_all_captures_of_the_list(text: str) -> None:
    gpus = nvidia_smi_list.parse_list(text)
    assert len(gpus) == text.count("GPU ")
    assert sum(len(gpu.mig) for gpu in gpus) == text.count("Device ")


def test_a_list_with_other_lines_and_out_of_order() -> None:
    text = (
        "Unable to determine the device handle for GPU2: 0000:3A:00.0: Unknown Error\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-nobody)\n"
        "GPU 3: Orin (nvgpu) (UUID: 1833c8b5)\nGPU 1: NVIDIA H100 NVL (UUID: GPU-1)\n"
        "  MIG 1g.10gb+me  Device  4: (UUID: MIG-4)\n"
    )
    gpus = nvidia_smi_list.parse_list(text)
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(1, "GPU-1"), (3, "1833c8b5")]
    assert gpus[0].mig == (nvidia_smi_list.MigName(4, "1g.10gb+me", "MIG-4"),)
