# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drivers and GPUs to the index of PyTorch's wheels, over every row of the tables, written down here once more."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.filter.torch_wheel import FilterModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import (
    beyond,
    index_of_nodes,
    refuse_index,
    torch_wheel,
    without_kernels,
)
from hypothesis import given
from hypothesis import strategies as st

# Releases of PyTorch and their indexes.
INDEXES = {
    ("2.4", "2.5"): ["cu118", "cu121", "cu124"],
    ("2.6",): ["cu118", "cu124", "cu126"],
    ("2.7",): ["cu118", "cu126", "cu128"],
    ("2.8",): ["cu126", "cu128", "cu129"],
    ("2.9", "2.10", "2.11"): ["cu126", "cu128", "cu130"],
    ("2.12", "2.13", "2.14"): ["cu126", "cu130", "cu132"],
    ("2.15",): ["cu130", "cu132"],
}
ROWS = {torch: indexes for releases, indexes in INDEXES.items() for torch in releases}
# CUDA and the driver it was shipped with.
SHIPPED = {
    "cu118": "520.61",
    "cu121": "530.30",
    "cu124": "550.54",
    "cu126": "560.28",
    "cu128": "570.26",
    "cu129": "575.51",
    "cu130": "580.65",
    "cu132": "595.45",
}
# Minor-version compatibility: major version of CUDA and the oldest driver it runs on.
COMPATIBLE = {"11": "450", "12": "525", "13": "580"}
# GPUs and their compute capability.
GPUS = {
    "P100": "6.0",
    "V100": "7.0",
    "T4": "7.5",
    "A100": "8.0",
    "RTX 30": "8.6",
    "RTX 40, L40S": "8.9",
    "H100, H200, GH200": "9.0",
    "B200, GB200": "10.0",
    "RTX 50": "12.0",
}
NEW_DRIVER = "610.57.04"
# For aarch64, where other architectures are built, and none before 2.7.
ARM = {
    ("2.7",): ["cu128"],
    ("2.8",): ["cu129"],
    ("2.9", "2.10", "2.11"): ["cu126", "cu128", "cu130"],
    ("2.12", "2.13", "2.14"): ["cu126", "cu130", "cu132"],
    ("2.15",): ["cu130", "cu132"],
}
ARM_ROWS = {torch: indexes for releases, indexes in ARM.items() for torch in releases}
ARM_GPUS = {
    "A100": "8.0",
    "Orin": "8.7",
    "GH200": "9.0",
    "GB200": "10.0",
    "GB300": "10.3",
    "Thor": "11.0",
    "GB10": "12.1",
}
PAIRS = [(torch, index) for torch, indexes in ROWS.items() for index in indexes]


def choose(driver: str | None, capabilities: list[Any], torch: str, **host: str) -> str:
    return torch_wheel({"driver": driver, "compute_capabilities": capabilities, **host}, torch)


def holds(torch: str, index: str, capability: str) -> bool:
    """Which GPUs a wheel serves, as the tables say it in words."""
    number, minor = float(capability), int(torch.split(".")[1])
    if number >= 10:
        return index >= "cu128"
    if number < 7 and index >= "cu128":
        return False
    if number < 7.5 and index >= "cu128":  # Volta: in those of 2.8 to 2.10, and never with CUDA 13
        return index < "cu130" and 8 <= minor <= 10
    return True


def arm_holds(torch: str, index: str, capability: str) -> bool:
    """The same for aarch64."""
    number, minor = float(capability), int(torch.split(".")[1])
    if 11 <= number < 12:
        return index >= "cu130"
    if number >= 10:
        return index >= "cu128"
    return minor > 7 or number >= 9


@pytest.mark.parametrize("torch", ARM_ROWS)
@pytest.mark.parametrize("gpu", ARM_GPUS)
def test_each_gpu_of_an_arm_host_gets_the_newest_index_that_holds_it(torch: str, gpu: str) -> None:
    holding = [index for index in ARM_ROWS[torch] if arm_holds(torch, index, ARM_GPUS[gpu])]
    if holding:
        assert choose(NEW_DRIVER, [ARM_GPUS[gpu]], torch, machine="aarch64") == holding[-1]
    else:
        with pytest.raises(GpusteadError, match=f"has compute capability {ARM_GPUS[gpu]}"):
            choose(NEW_DRIVER, [ARM_GPUS[gpu]], torch, machine="aarch64")


def test_one_index_serves_hosts_of_both_kinds() -> None:
    hosts = [
        {"host": "x", "machine": "x86_64", "driver": NEW_DRIVER, "compute_capabilities": ["9.0"]},
        {"host": "arm", "machine": "aarch64", "driver": NEW_DRIVER, "compute_capabilities": ["9.0"]},
    ]
    assert torch_wheel(hosts, "2.8") == "cu129"
    assert torch_wheel(hosts, "2.14.1") == "cu132"
    with pytest.raises(GpusteadError, match=r"arm is aarch64, for which cu118 has no wheel.*Take torch 2\.15"):
        torch_wheel(hosts, "2.6")


@pytest.mark.parametrize("torch", ["2.16.0", "2.16.0.dev20261120+cu132", "3.0.1", "10.0"])
def test_a_release_newer_than_the_table_is_taken_for_its_newest(torch: str) -> None:
    assert choose(NEW_DRIVER, ["9.0"], torch) == choose(NEW_DRIVER, ["9.0"], "2.15") == "cu132"
    assert choose("580.65", ["9.0"], torch) == "cu130"
    assert f"torch {torch} is newer than 2.15" in beyond(torch)


@pytest.mark.parametrize("torch", [*ROWS, "2.14.0", "2.14.1", "2.15.0", "2.1", "nightly", ""])
def test_of_other_releases_nothing_is_told(torch: str) -> None:
    assert beyond(torch) == ""


def test_the_filter_warns_of_a_release_that_is_newer_than_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, text: told.append(text))
    wheel = FilterModule().filters()["torch_wheel"]
    assert wheel({"driver": NEW_DRIVER, "compute_capabilities": ["9.0"]}, "2.15.0") == "cu132"
    assert told == []
    assert wheel({"driver": NEW_DRIVER, "compute_capabilities": ["9.0"]}, "2.16.0") == "cu132"
    assert told == [beyond("2.16.0")]


URL = "https://download.pytorch.org/whl"


@pytest.mark.parametrize(
    ("torch", "index"),
    [
        *((torch, f"{URL}/{index}/") for torch, index in PAIRS),
        *((torch, f"{URL}/{index}") for torch, indexes in ARM_ROWS.items() for index in indexes),
        ("2.16.0", f"{URL}/cu126"),
        ("2.15.0", f"{URL}/cu134"),
        ("2.15.0", f"{URL}/cpu"),
        ("2.15.0", "https://mirror.example/simple"),
        ("2.15.0", ""),
        ("", f"{URL}/cu126"),
    ],
)
def test_an_index_that_may_have_a_release(torch: str, index: str) -> None:
    refuse_index("x", torch, index)


@pytest.mark.parametrize(
    ("torch", "index", "words"),
    [
        ("2.15.0", "cu126", "torch 2.15.0 from cu126: expected an index that has it, cu130 or cu132.*, or torch 2.14"),
        ("2.14.1", "cu128/", "torch 2.14.1 from cu128: expected an index that has it, cu126 or cu130 or cu132"),
        ("2.4.0", "cu130", "or torch 2.15"),
    ],
)
def test_an_index_without_a_release_is_refused(torch: str, index: str, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        refuse_index("x", torch, f"{URL}/{index}")


@pytest.mark.parametrize(("torch", "index"), PAIRS)
def test_the_driver_that_a_cuda_was_shipped_with_gets_it(torch: str, index: str) -> None:
    assert choose(SHIPPED[index], ["8.0"], torch) == index
    assert choose(f"{SHIPPED[index]}.99", ["8.0"], f"{torch}.1+{index}") == index


@pytest.mark.parametrize("torch", ROWS)
@pytest.mark.parametrize("gpu", GPUS)
def test_each_gpu_gets_the_newest_index_that_holds_it(torch: str, gpu: str) -> None:
    holding = [index for index in ROWS[torch] if holds(torch, index, GPUS[gpu])]
    if holding:
        assert choose(NEW_DRIVER, [GPUS[gpu]], torch) == holding[-1]
    else:
        with pytest.raises(GpusteadError, match=f"has compute capability {GPUS[gpu]}"):
            choose(NEW_DRIVER, [GPUS[gpu]], torch)


@pytest.mark.parametrize(("torch", "index"), PAIRS)
def test_below_the_driver_it_was_shipped_with_a_cuda_runs_down_to_its_majors_oldest(torch: str, index: str) -> None:
    oldest = COMPATIBLE[index[2:4]]
    fitting = [other for other in ROWS[torch] if int(COMPATIBLE[other[2:4]]) <= int(oldest)]
    complete = [other for other in fitting if float(SHIPPED[other]) <= int(oldest)]
    assert choose(f"{oldest}.0", ["8.0"], torch) == (complete or fitting)[-1]


@pytest.mark.parametrize("torch", ROWS)
def test_a_driver_older_than_all_is_refused(torch: str) -> None:
    majors = sorted({index[2:4] for index in ROWS[torch]})
    driver = f"{int(COMPATIBLE[majors[0]]) - 1}.99.99"
    with pytest.raises(GpusteadError, match=f"Install driver {COMPATIBLE[majors[0]]} or newer on the host") as caught:
        choose(driver, ["8.0"], torch)
    assert all(f"{index} needs {COMPATIBLE[index[2:4]]}" in caught.value.what for index in ROWS[torch])


CASES: dict[str, tuple[str | None, list[Any], str, str]] = {
    "no driver": (None, ["9.0"], "2.13.0", "cpu"),
    "no GPU": ("590.48.01", [], "2.13.0", "cpu"),
    "one that is older than all architectures of its major version": ("590.48.01", ["6.1"], "2.13", "cu126"),
    "a minor version above the architectures": ("590.48.01", ["10.3"], "2.13", "cu130"),
    "GB10": ("590.48.01", ["12.1"], "2.13", "cu130"),
    "Kepler": ("470.256.02", ["3.7"], "2.5", "cu118"),
    "two kinds of GPU": ("590.48.01", ["7.0", "12.0"], "2.10", "cu128"),
    "numbers as YAML reads them": ("590.48.01", [9.0, 10.0], "2.13", "cu130"),
}


@pytest.mark.parametrize("case", CASES)
def test_chosen(case: str) -> None:
    driver, capabilities, torch, expected = CASES[case]
    assert choose(driver, capabilities, torch) == expected


REFUSED: dict[str, tuple[Any, str, list[str]]] = {
    "Blackwell with an old driver": (
        {"driver": "570.26", "compute_capabilities": ["12.0"]},
        "2.12",
        ["cu126 is built for 5.0,", "cu130 needs 580", "Install driver 580 or newer on the host, or take torch 2.11."],
    ),
    "Blackwell with an old driver and an old torch": (
        {"driver": "470.1", "compute_capabilities": ["12.0"]},
        "2.4",
        ["Take torch 2.15 and install driver 580 or newer on the host."],
    ),
    "GPUs that no index of this torch holds together": (
        {"driver": "590.1", "compute_capabilities": ["7.0", "12.0"]},
        "2.12",
        ["cu126 is built for", "has compute capability 7.0, cu132 is built for 7.5,", "Take torch 2.10."],
    ),
    "GPUs that no wheel holds together": (
        {"driver": "590.1", "compute_capabilities": ["6.1", "12.0"]},
        "2.9",
        ["Build an image for each kind: no wheel holds 6.1, 12.0 together."],
    ),
    "a GPU that no wheel holds": (
        {"driver": "590.1", "compute_capabilities": ["3.5", "9.0"]},
        "2.9",
        ["Leave out the GPUs of compute capability 3.5: no wheel is built for them."],
    ),
    "one host of several": (
        [
            {"host": "gpu01", "driver": "590.48.01", "compute_capabilities": ["12.0"]},
            {"host": "gpu02", "driver": "570.26", "compute_capabilities": ["9.0"]},
        ],
        "2.13",
        ["gpu01 has compute capability 12.0, cu126", "gpu02 has driver 570.26, cu130", "or newer on gpu02, or"],
    ),
    "nodes that no wheel of this torch holds together": (
        [
            {"host": "h1", "driver": "590.48.01", "compute_capabilities": ["9.0"]},
            {"host": "v1", "driver": "580.65.06", "compute_capabilities": ["7.0"]},
            {"host": "h2", "driver": "595.45.01", "compute_capabilities": ["9.0"]},
        ],
        "2.15",
        [
            "v1 has compute capability 7.0, cu130 is built for 7.5",
            "Take torch 2.14, or split the nodes by images_variants",
            "(h1, h2: torch 2.15 from cu130; v1: torch 2.14 from cu126).",
        ],
    ),
    "nodes that no wheel of any torch holds together": (
        [
            {"host": "p1", "driver": "590.48.01", "compute_capabilities": ["6.1"]},
            {"host": "b1", "driver": "610.57.04", "compute_capabilities": ["12.0"]},
        ],
        "2.13",
        ["Split the nodes by images_variants (p1: torch 2.13 from cu126; b1: torch 2.13 from cu132)."],
    ),
    "an unknown torch": (
        {"driver": "590.1", "compute_capabilities": ["9.0"]},
        "2.1",
        ["torch 2.1: ", "2.4, 2.5, ", "2.13"],
    ),
    "an old torch on an arm host": (
        {"machine": "aarch64", "driver": "590.1", "compute_capabilities": ["9.0"]},
        "2.6",
        ["the host is aarch64, for which cu126 has no wheel", "Take torch 2.15."],
    ),
    "a machine without wheels": (
        {"machine": "ppc64le", "driver": "590.1", "compute_capabilities": ["7.0"]},
        "2.9",
        ["the host: machine 'ppc64le'", "x86_64, aarch64"],
    ),
    "Pascal with a torch that has left it": (
        {"driver": "590.1", "compute_capabilities": ["6.1"]},
        "2.15",
        ["has compute capability 6.1, cu130 is built for", "Take torch 2.14."],
    ),
    "no torch": ({"driver": "590.1", "compute_capabilities": ["9.0"]}, "nightly", ["torch nightly: "]),
    "a driver that is none": ({"driver": "N/A", "compute_capabilities": ["9.0"]}, "2.9", ["driver 'N/A'"]),
    "a GPU that is not known": (
        {"driver_version": "590.1", "gpus": [{"compute_capability": None}]},
        "2.9",
        ["compute capability None"],
    ),
    "a GPU of some that is not known": (
        {
            "driver_version": "470.57.02",
            "gpus": [
                {"index": 0, "compute_capability": "8.0"},
                {"index": 1, "name": "Graphics Device", "uuid": "GPU-1", "compute_capability": None},
            ],
            "host": "gpu07",
        },
        "2.5",
        ["gpu07: compute capability None of GPU 1, Graphics Device, GPU-1", "Install driver 510", "nvidia_exclude"],
    ),
    "a driver that is not known": (
        {"driver_version": None, "gpus": [{"index": 0, "compute_capability": "8.7"}]},
        "2.9",
        ["the version of the driver is not known"],
    ),
    "something else": ([{"driver": "590.1"}, {}], "2.9", ["host 1: ['driver']"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    hosts, torch, words = REFUSED[case]
    with pytest.raises(AnsibleFilterError) as caught:
        FilterModule().filters()["torch_wheel"](hosts, torch)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


H100 = {"host": "h1", "driver": "590.48.01", "compute_capabilities": ["9.0"]}
RTX_5090 = {"host": "r1", "driver": "590.44.01", "compute_capabilities": ["12.0"]}
V100 = {"host": "v1", "driver": "580.65.06", "compute_capabilities": ["7.0"]}
SILENT: dict[str, Any] = {"host": "s1", "driver": None, "compute_capabilities": []}
FOLLOWED: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "no node is known": ([], "2.13.0", "cu126"),
    "a node without a working driver": ([SILENT], "2.13.0", "cu126"),
    "no node, and a torch without the usual one": ([], "2.15.0", "cu130"),
    "H100": ([H100], "2.13.0", "cu126"),
    "H100 and a torch without the usual one": ([H100], "2.15.0", "cu130"),
    "RTX 5090": ([RTX_5090], "2.13.0", "cu130"),
    "H100 and RTX 5090": ([H100, RTX_5090, SILENT], "2.13.0", "cu130"),
    "H100 and V100": ([H100, V100], "2.13.0", "cu126"),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_the_usual_index_is_left_only_where_it_does_not_serve_all_nodes(case: str) -> None:
    hosts, torch, index = FOLLOWED[case]
    assert index_of_nodes(hosts, torch, "cu126") == index


def test_nodes_that_no_index_serves_are_refused_with_the_split() -> None:
    with pytest.raises(GpusteadError, match=r"h1: torch 2\.15 from cu130; v1: torch 2\.14 from cu126"):
        index_of_nodes([H100, V100], "2.15.0", "cu126")


@pytest.mark.parametrize(
    ("torch", "index", "machine", "lacking"),
    [
        ("2.13.0", "cu126", "x86_64", ["12.0"]),
        ("2.13.0", "cu130", "x86_64", ["7.0"]),
        ("2.13.0+cu130", "cu130", "aarch64", ["7.0"]),
        ("2.13.0", "cpu", "x86_64", []),
        ("2.16.0", "cu130", "x86_64", []),
        ("nightly", "cu130", "x86_64", []),
        ("2.13.0", "cu130", "riscv64", []),
    ],
)
def test_gpus_without_code_in_a_wheel(torch: str, index: str, machine: str, lacking: list[str]) -> None:
    assert without_kernels(torch, index, machine, ["12.0", "9.0", "7.0", "9.0"]) == lacking


def info(driver: str | None, *capabilities: str) -> dict[str, Any]:
    """What gpu_info returns, as far as it is read."""
    return {"driver_version": driver, "gpus": [{"compute_capability": value} for value in capabilities]}


@pytest.mark.parametrize(("withheld", "index"), [(None, "cu126"), ("excluded", "cu130")])
def test_a_gpu_that_is_left_out_chooses_no_index(withheld: str | None, index: str) -> None:
    found = info("590.48.01", "8.6", "6.1")
    found["gpus"][1]["withheld"] = withheld
    assert torch_wheel(found, "2.12.0") == index


def test_one_index_serves_all_hosts() -> None:
    wheel = FilterModule().filters()["torch_wheel"]
    assert wheel([info("590.48.01", "9.0"), info("570.26", "9.0")], "2.9") == "cu128"
    assert wheel([info("590.48.01", "9.0"), info("590.48.01", "6.1")], "2.9") == "cu126"
    assert wheel([info("590.48.01", "9.0"), info(None)], "2.9") == "cu130"
    assert wheel((host for host in [info(None), info(None)]), "2.9") == "cpu"
    assert wheel([], "2.9") == "cpu"


@given(
    hosts=st.lists(
        st.tuples(st.integers(440, 620), st.integers(0, 99), st.lists(st.sampled_from(list(GPUS.values())))), max_size=3
    ),
    torch=st.sampled_from(list(ROWS)),
)
def test_whatever_is_chosen_serves_all(hosts: list[tuple[int, int, list[str]]], torch: str) -> None:
    given_hosts = [{"driver": f"{a}.{b:02}", "compute_capabilities": gpus} for a, b, gpus in hosts]
    usable = [(major, gpu) for major, _, gpus in hosts for gpu in gpus]
    serving = [
        index
        for index in ROWS[torch]
        if all(major >= int(COMPATIBLE[index[2:4]]) and holds(torch, index, gpu) for major, gpu in usable)
    ]
    try:
        chosen = torch_wheel(given_hosts, torch)
    except GpusteadError:
        assert usable and not serving
    else:
        assert chosen in serving if usable else chosen == "cpu"
