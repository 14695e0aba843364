"""The matrix of nvidia-smi topo -m, whole, cut, with tabs and with spaces."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.topology import Link, Place, parse
from ansible_collections.gpustead.cluster.tests.unit.captures import capture, captures
from hypothesis import given
from hypothesis import strategies as st

# Capture; how many links, one of them; how many GPUs have a row, and where one of them is.
SEEN = {
    "h100": (0, None, 1, (0, Place("0-19", (0,), ()))),
    "2gpu-nvlink-nv2-numa-na": (1, Link(0, 1, "NV2"), 2, (1, Place("0-23", (), ()))),
    "8x4090-2numa-2nic-tabs": (28, Link(3, 4, "SYS"), 8, (6, Place("56-111,168-223", (1,), ("NIC0", "NIC1")))),
    "8xh100-8nic-full": (28, Link(6, 7, "NV18"), 8, (5, Place("48-95,144-191", (1,), ("mlx5_5",)))),
    "8xh100-nv18-compact": (28, Link(0, 7, "NV18"), 8, (4, Place("52-103", (1,), ()))),
    # Memory nodes that do not ascend, the last row cut off: its links are in the other rows.
    "8xa100-nps4-6nic-partial": (28, Link(6, 7, "NV12"), 7, (0, Place("24-31,88-95", (3,), ("NIC1",)))),
    "2xa100-slurm-10nic-partial": (1, Link(0, 1, "NV12"), 2, (1, Place("48-63,176-191", (3,), ("NIC0", "NIC1")))),
    "8gpu-26nic-tabs-partial": (18, Link(2, 7, "NV18"), 3, (1, Place("0-95,192-287", (0,), ("NIC21",)))),
    # Without a header only the columns up to a row's own are sure.
    "8xb200-broken-nvlink-noheader-partial": (15, Link(2, 5, "SYS"), 6, (2, Place("0-55,112-167", (0,), ()))),
}


@pytest.mark.parametrize(("name", "links", "link", "rows", "place"), [(k, *v) for k, v in SEEN.items()], ids=list(SEEN))
def test_captures(name: str, links: int, link: Link | None, rows: int, place: tuple[int, Place]) -> None:
    matrix = parse(capture(f"topo/{name}"))
    assert len(matrix.links) == links
    assert link is None or link in matrix.links
    assert len(matrix.places) == rows
    assert matrix.places[place[0]] == place[1]


@pytest.mark.parametrize("text", captures("topo"))
def test_all_captures_say_where_each_gpu_is(text: str) -> None:
    places = parse(text).places
    assert sorted(places) == list(range(len(places)))
    assert all(place.cpus for place in places.values())


HEADER = "\tGPU0\tGPU1\tmlx5_0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
WRITTEN = {
    "memory nodes as a list": (
        HEADER + "GPU0\t X \tNV6\tPIX\t0-71\t0,3-5\t\t2\n",
        Place("0-71", (0, 3, 4, 5), ("mlx5_0",)),
    ),
    "no affinity, tabs": (HEADER + "GPU0\t X \tNV6\tSYS\t\t0\t\tN/A\n", Place(None, (0,), ())),
    "no affinity, spaces": (HEADER.expandtabs() + "GPU0   X   NV6  SYS   0-3   N/A\n", Place()),
    "no affinity at all": ("    GPU0  GPU1\nGPU0   X   NV6\nGPU1  NV6   X\n", Place()),
    "old word": (HEADER + "GPU0\t X \tSOC\tNODE\t0-7\t\n", Place("0-7", (), ("mlx5_0",))),
    "one, its header cut": ("GPU0\t X \t0-7\t1\t\tN/A\n", Place("0-7", (1,), ())),
}


@pytest.mark.parametrize(("text", "place"), WRITTEN.values(), ids=list(WRITTEN))
def test_what_drivers_write(text: str, place: Place) -> None:
    assert parse(text).places[0] == place


def test_old_word_for_a_link() -> None:
    assert parse(WRITTEN["old word"][0]).links == (Link(0, 1, "SYS"),)


def test_a_row_that_does_not_fit_the_header_is_not_believed() -> None:
    assert parse(HEADER + "GPU0\tNV6\tNV6\tPIX\t0-7\t0\n").places == {}


ALPHABET = st.sampled_from(
    ["GPU0", "GPU1", "GPU12", "NIC0", "X", "NV4", "SYS", "\t", " ", "\n", "0-3", "N/A", "CPU Affinity"]
)


@given(st.text() | st.lists(ALPHABET).map("".join) | st.lists(ALPHABET).map(" ".join))
def test_any_text(text: str) -> None:
    matrix = parse(text)
    assert all(link.a < link.b for link in matrix.links)


@given(st.data())
def test_any_part_of_a_capture(data: st.DataObject) -> None:
    text = capture("topo/8xh100-8nic-full")
    first, last = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    assert {(link.a, link.b) for link in parse(text[:first]).links} <= {(a, b) for b in range(8) for a in range(b)}
    parse(text[:first] + data.draw(st.text(max_size=5)) + text[last:])
