# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The matrix of ``nvidia-smi topo -m``: what links the GPUs, which CPUs, memory nodes and network cards are near.

NVIDIA documents no format. The header can be underlined with escapes, cells are parted by tabs or by spaces, rows of
network cards have no affinity, and a matrix that somebody cut can have no header.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci

COMMAND = ("topo", "-m")

_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_GPU = re.compile(r"GPU([0-9]{1,3})")
_LINK = re.compile(r"NV[0-9]{1,3}|PIX|PXB|PHB|NODE|SYS")
_OLD = {"SOC": "SYS"}  # what old drivers called it
_NEAR = ("PIX", "PXB", "PHB", "NODE")  # nearest first; SYS crosses to another memory node
_LEGEND = re.compile(r"\s*(NIC[0-9]{1,3}): (\S+)\s*")


@dataclass(frozen=True)
class Link:
    """What links GPUs `a` and `b` (indexes): ``NV18`` is 18 NVLinks; PIX, PXB, PHB, NODE and SYS are farther each."""

    a: int
    b: int
    link: str


@dataclass(frozen=True)
class Place:
    """Where a GPU is. `cpus` is in the kernel's list syntax; `nics` as the legend names them, else ``NIC0``."""

    cpus: str | None = None
    numa_nodes: tuple[int, ...] = ()
    nics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """`places` by index of the GPU; only for GPUs that have a row."""

    links: tuple[Link, ...] = ()
    places: Mapping[int, Place] = field(default_factory=dict)


def _is_cell(word: str) -> bool:
    return word == "X" or word in _OLD or bool(_LINK.fullmatch(word))


def _is_header(words: list[str]) -> bool:
    return bool(words) and bool(_GPU.fullmatch(words[0])) and not (len(words) > 1 and _is_cell(words[1]))


def _index(name: str) -> int | None:
    match = _GPU.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class _Row:
    index: int
    cells: dict[str, str]  # by column
    rest: list[str]  # CPU affinity, NUMA affinity, and what follows

    def near(self, names: Mapping[str, str], passed_over: Collection[str]) -> tuple[str, ...]:
        """The network cards with the best link that does not leave the memory node."""
        links = {names.get(column, column): link for column, link in self.cells.items() if _index(column) is None}
        cards = {name: link for name, link in links.items() if name not in passed_over}
        best = next((link for link in _NEAR if link in cards.values()), None)
        return tuple(name for name, link in cards.items() if link == best)


def _row(line: str, columns: list[str] | None, affinities: int) -> _Row | None:
    """A row of a GPU; None when it is another one, or its own column is not where the header says."""
    tabs = "\t" in line
    words = [word.strip() for word in line.strip("\r\n").split("\t")] if tabs else line.split()
    index = _index(words[0]) if words else None
    if index is None:
        return None
    if columns is None:  # then only the GPUs' own columns are sure, up to this one
        count = next((n for n, word in enumerate(words[1:]) if not _is_cell(word)), len(words) - 1)
        columns = [f"GPU{n}" if n <= index else "" for n in range(count)]
    cells = {column: word for column, word in zip(columns, words[1:]) if column}
    if cells.pop(f"GPU{index}", "") != "X":
        return None
    rest = words[1 + len(columns) :]
    # Parted by spaces, an empty cell cannot be seen: then it is not known which one it is.
    return _Row(index, cells, rest if tabs or not affinities or len(rest) == affinities else [])


def _links(rows: list[_Row]) -> tuple[Link, ...]:
    found: dict[tuple[int, int], str] = {}
    for row in rows:
        for column, text in row.cells.items():
            other, link = _index(column), _OLD.get(text, text)
            if other is not None and other != row.index and _LINK.fullmatch(link):
                found.setdefault((min(row.index, other), max(row.index, other)), link)
    return tuple(Link(a, b, link) for (a, b), link in sorted(found.items()))


def parse(text: str, passed_over: Collection[str] = ()) -> Matrix:
    """Read a matrix, or the part of one that is there. Text that is none gives an empty one; nothing is raised.

    Args:
        passed_over: names of network cards that are near to no GPU, since they cannot be used.
    """
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    header = next((line for line in lines if _is_header(line.split())), None)
    columns = None if header is None else re.split(r"CPU Affinity|NUMA Affinity|GPU NUMA ID", header)[0].split()
    affinities = 0 if header is None else header.count("Affinity") + header.count("GPU NUMA ID")
    rows = [row for line in lines if line != header and (row := _row(line, columns, affinities))]
    names = {match[1]: match[2] for line in lines if (match := _LEGEND.fullmatch(line))}
    places = {
        row.index: Place(
            pci.cpu_list(row.rest[0]) if row.rest else None,
            pci.expand(row.rest[1]) if len(row.rest) > 1 else (),
            row.near(names, passed_over),
        )
        for row in rows
    }
    return Matrix(_links(rows), places)
