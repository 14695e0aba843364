# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GPUs to the CPUs and memory nodes near them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.filter.gpu_cpuset import FilterModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_cpuset import format_list, parse_list
from hypothesis import given
from hypothesis import strategies as st


def gpu(index: int, cpus: str | None, *nodes: int, **more: Any) -> dict[str, Any]:
    mig = {"current": "instances" in more, "pending": False, "instances": more.get("instances", [])}
    return {"index": index, "uuid": f"GPU-{index}", "cpus": cpus, "numa_nodes": list(nodes), "mig": mig}


# As an 8-GPU host with two sockets and hyperthreading has them, and what topologies without affinity give.
HOST = [
    gpu(0, "0-31,64-95", 0),
    gpu(1, "0-31,64-95", 0, instances=[{"uuid": "MIG-1a"}, {"uuid": None}]),
    gpu(2, "32-63,96-127", 1),
    gpu(3, None),
    gpu(4, "128", 0, 3),
]
CASES: dict[str, tuple[list[Any] | None, str | None, str | None]] = {
    "one": ([0], "0-31,64-95", "0"),
    "one twice": ([0, "GPU-0", "0"], "0-31,64-95", "0"),
    "by UUID": (["GPU-2"], "32-63,96-127", "1"),
    "a MIG instance": (["MIG-1a"], "0-31,64-95", "0"),
    "two of one socket": ([0, 1], "0-31,64-95", "0"),
    "two sockets": ([2, 0], "0-127", "0-1"),
    "several nodes": ([4, 2], "32-63,96-128", "0-1,3"),
    "one of which nothing is known": ([0, 3], None, None),
    "none": ([], None, None),
    "all": (None, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_place(case: str) -> None:
    wanted, cpus, mems = CASES[case]
    assert FilterModule().filters()["gpu_cpuset"](HOST, wanted) == {"cpus": cpus, "mems": mems}


@pytest.mark.parametrize(
    ("gpus", "wanted", "words"),
    [
        (HOST[:2], ["GPU-7"], "GPU GPU-7: expected one of 0 (GPU-0), 1 (GPU-1)."),
        ([], [0], "GPU 0: expected one of no GPU at all."),
        ([gpu(0, "0-x", 0)], [0], "'0-x' in the list"),
        ([gpu(0, "7-3", 0)], [0], "'7-3' in the list"),
        ([gpu(0, "0-99999999999", 0)], [0], "'0-99999999999' in the list"),
    ],
)
def test_refused(gpus: list[dict[str, Any]], wanted: list[Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(words)):
        FilterModule().filters()["gpu_cpuset"](gpus, wanted)


@given(st.frozensets(st.integers(0, 300)))
def test_a_list_is_read_as_it_was_written(numbers: frozenset[int]) -> None:
    text = format_list(numbers)
    assert parse_list(text) == numbers
    # The shortest: no two ranges touch.
    ends = [[int(number) for number in part.split("-")] for part in text.split(",") if part]
    assert all(before[-1] + 1 < after[0] for before, after in zip(ends, ends[1:]))


@given(st.text(alphabet="0123456789-, ax") | st.text())
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        numbers = parse_list(text)
    except GpusteadError as error:
        assert "in the list" in error.what
    else:
        assert all(0 <= number <= 65535 for number in numbers)
