"""Persistence mode and power limits, and which declared value is meant for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_settings
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_choice import choose
from hypothesis import given
from hypothesis import strategies as st

UUID = "GPU-0008bcf4-cae8-0120-a18f-bc344fb1c710"
GPU: dict[str, Any] = {
    "index": 0,
    "uuid": UUID,
    "name": "NVIDIA A100-SXM4-40GB",
    "persistence": True,
    "power_limit_w": 400.0,
    "power_limit_min_w": 100.0,
    "power_limit_max_w": 400.0,
}

CHOSEN = [
    ({}, None),
    ({"H100": 1}, None),
    ({"a100": 1}, 1),
    ({"A100": 1, "A100-SXM4": 2}, 2),
    ({"A100-SXM4": 1, "gpu:0": 2}, 2),
    ({"A100": 1, UUID.lower(): 2}, 2),
    ({"gpu:1": 1, "GPU-ffff": 2}, None),
    ({"gpu:0": 1, UUID: 1}, 1),
]


@pytest.mark.parametrize(("declared", "value"), CHOSEN)
def test_chosen(declared: dict[str, int], value: int | None) -> None:
    assert choose("x", declared, GPU) == value


# A model, the names of GPUs that it means, and those of others.
MODELS = {
    "A10": (["NVIDIA A10", "NVIDIA A10-24Q"], ["NVIDIA A100-SXM4-40GB", "NVIDIA A10G", "NVIDIA A10M"]),
    "A100": (
        ["NVIDIA A100-SXM4-40GB", "NVIDIA A100 80GB PCIe", "A100-SXM-80GB", "GRID A100-4C"],
        ["NVIDIA A100X", "GRID A100D-40C"],
    ),
    "A100 SXM4": (["NVIDIA A100-SXM4-40GB"], ["NVIDIA A100-PCIE-40GB"]),
    "a100-pcie": (["NVIDIA A100-PCIE-40GB"], ["NVIDIA A100 80GB PCIe"]),
    "H200": (["NVIDIA H200", "NVIDIA H200 NVL"], ["NVIDIA GH200 480GB"]),
    "GH200": (["NVIDIA GH200 480GB"], ["NVIDIA H200"]),
    "B200": (["NVIDIA B200"], ["NVIDIA GB200"]),
    "L4": (["NVIDIA L4"], ["NVIDIA L40", "NVIDIA L40S"]),
    "T4": (["Tesla T4"], ["NVIDIA T400 4GB", "NVIDIA T4G"]),
    "V100": (["Tesla V100-SXM2-16GB"], ["Tesla V100S-PCIE-32GB"]),
    "RTX 4090": (["NVIDIA GeForce RTX 4090"], ["NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU"]),
    "RTX 4070": (["NVIDIA GeForce RTX 4070"], ["NVIDIA GeForce RTX 4070 Ti SUPER", "NVIDIA GeForce RTX 4070 SUPER"]),
    "RTX 4070 Ti": (["NVIDIA GeForce RTX 4070 Ti"], ["NVIDIA GeForce RTX 4070 Ti SUPER"]),
    "RTX 6000": (["Quadro RTX 6000"], ["NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX PRO 6000 Blackwell"]),
    "RTX 6000 Ada": (["NVIDIA RTX 6000 Ada Generation"], ["Quadro RTX 6000"]),
    "A6000": (["NVIDIA RTX A6000"], []),
}


@pytest.mark.parametrize(("key", "names"), MODELS.items(), ids=list(MODELS))
def test_a_model_names_whole_words(key: str, names: tuple[list[str], list[str]]) -> None:
    meant, others = names
    assert [name for name in meant if choose("x", {key: 1}, {**GPU, "name": name}) is None] == []
    assert [name for name in others if choose("x", {key: 1}, {**GPU, "name": name}) is not None] == []


@pytest.mark.parametrize(
    "declared", [{"": 1}, {" - ": 1}, {"gpu:": 1}, {"gpu:a": 1}, {"gpu:0": 1, UUID: 2}, {"A100": 1, "SXM4": 2}]
)
def test_refused(declared: dict[str, int]) -> None:
    with pytest.raises(GpusteadError, match=r"^x: "):
        choose("x", declared, GPU)


@given(st.dictionaries(st.one_of(st.text(), st.sampled_from([UUID, "gpu:0", "A100"])), st.integers(0, 1)))
def test_any_key_chooses_or_is_refused(declared: dict[str, int]) -> None:
    try:
        assert choose("x", declared, GPU) in (None, 0, 1)
    except GpusteadError as error:
        assert error.what.startswith("x: ")


PLANNED = {
    "nothing": ({}, True, {}, []),
    "persistence": ({"persistence": False}, True, {}, [("-i", "0", "-pm", "1")]),
    "persistence left alone": ({"persistence": False}, False, {}, []),
    "not known": ({"persistence": None}, True, {}, []),
    "limit": ({}, True, {"A100": 300}, [("-i", "0", "-pl", "300")]),
    "limit as it is": ({"power_limit_w": 300.0}, True, {"A100": 300.2}, []),
    "both": ({"persistence": False}, True, {"A100": 250.5}, [("-i", "0", "-pm", "1"), ("-i", "0", "-pl", "250.5")]),
    "bounds not known": (
        {"power_limit_min_w": None, "power_limit_max_w": None},
        True,
        {"A100": 9},
        [("-i", "0", "-pl", "9")],
    ),
}


@pytest.mark.parametrize(("own", "persistence", "limits", "commands"), PLANNED.values(), ids=list(PLANNED))
def test_plan(
    own: dict[str, Any], persistence: bool, limits: dict[str, float], commands: list[tuple[str, ...]]
) -> None:
    steps = nvidia_settings.plan([{**GPU, **own}], persistence, limits)
    assert [step.command for step in steps] == commands


@pytest.mark.parametrize(
    ("own", "limit", "message"),
    [
        ({}, 401, "expected from 100 to 400 W"),
        ({}, 99, "nvidia_power_limit_w: 99 W for GPU 0"),
        ({"power_limit_max_w": None}, 99, "expected from 100 to None W"),
        ({"power_limit_w": None}, 300, "a GPU that has a power limit"),
    ],
)
def test_a_limit_that_cannot_be_set(own: dict[str, Any], limit: float, message: str) -> None:
    with pytest.raises(GpusteadError) as error:
        nvidia_settings.plan([{**GPU, **own}], True, {"A100": limit})
    assert message in str(error.value)


def test_apply() -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return (0, "All done.", "") if "-pm" in argv else (4, "", "Insufficient Permissions\n")

    steps = nvidia_settings.plan([{**GPU, "persistence": False}], True, {"A100": 300})
    with pytest.raises(
        GpusteadError, match=r"nvidia-smi -i 0 -pl 300 ended with 4: Insufficient Permissions: expected GPU 0"
    ):
        nvidia_settings.apply(run, "/usr/bin/nvidia-smi", steps)
    assert asked[0] == ["/usr/bin/nvidia-smi", "-i", "0", "-pm", "1"]


def test_gpus_that_are_left_out_are_left_alone() -> None:
    other = {**GPU, "index": 1, "uuid": "GPU-1", "persistence": False, "withheld": "excluded"}
    mine = {**GPU, "persistence": False, "withheld": None}
    limits = {"A100": 300}
    assert {step.command[1] for step in nvidia_settings.plan([mine, other], True, limits)} == {"0"}
    assert nvidia_settings.at_boot([mine, other], True, limits) == [
        ["-i", UUID, "-pm", "1"],
        ["-i", UUID, "-pl", "300"],
    ]


def test_at_boot() -> None:
    assert nvidia_settings.at_boot([GPU], True, {"A100": 300}) == [["-pm", "1"], ["-i", UUID, "-pl", "300"]]
    assert nvidia_settings.at_boot([GPU], False, {}) == []
