# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The compute capability of a GPU: as its driver says it, else by its name. ``nvidia-smi -q -x`` does not give it.

Drivers from 510 on answer QUERY (nvidia-smi --help-query-gpu, compute_cap). The names are
from https://developer.nvidia.com/cuda-gpus and https://developer.nvidia.com/cuda-legacy-gpus.
"""

from __future__ import annotations

import re

QUERY = ("--query-gpu=uuid,compute_cap", "--format=csv")
_ROW = re.compile(r"([A-Za-z0-9-]{1,80}), ?([1-9][0-9]?\.[0-9]{1,2})")

# The first one that fits. What is newer and narrower stands above what is wider.
_NAMES = (
    (r"GB10", "12.1"),
    (r"Thor|T[45]000 \(nvgpu\)", "11.0"),
    (r"G?B300", "10.3"),
    (r"G?B[12]00", "10.0"),
    (r"Blackwell|RTX 50[5-9]0|RTX PRO [0-9]{3,4}", "12.0"),
    (r"G?H[128]00[A-Z]{0,2}|H20", "9.0"),
    (r"Ada|L(?:2|4|20|40)[SG]?|RTX 40[5-9]0", "8.9"),
    (r"Orin", "8.7"),
    (r"A(?:30|100|800)[DX]?|CMP 170HX|PG50[69]-[0-9]{3}", "8.0"),
    (r"A(?:2|10|16|40)[GM]?|RTX A[0-9]{3,4}|RTX 30[5-9]0|RTX 2050|MX570", "8.6"),
    (r"Xavier", "7.2"),
    (r"V100[SL]?|GV100|TITAN V", "7.0"),
    (r"T(?:4|4G|10|40|400|500|550|600|1000|1200|2000)|TITAN RTX|GTX 16[0-9]0|MX[45]50", "7.5"),
    (r"RTX (?:[3456]000|8000)|RTX 20[6-8]0|DGX Display", "7.5"),
    (r"P100|GP100", "6.0"),
    (r"TX2", "6.2"),
    (r"GTX TITAN X|GTX 9[5-8]0M?|M(?:4|6|10|40|60|[2456]000)", "5.2"),
    (r"P4|P6|P40|TITAN Xp?|GTX 10[1-8]0|GT 10[13]0|MX(?:150|2[35]0|3[35]0)", "6.1"),
    (r"P(?:400|500|520|600|620|2200|[345]200|[1-6]000)", "6.1"),
    (r"K80", "3.7"),
)
# Architectures of which every card that is not named above has one capability.
_ARCHITECTURES = {"Hopper": "9.0", "Ada Lovelace": "8.9", "Turing": "7.5", "Volta": "7.0"}


def is_asked(driver_version: str | None) -> bool:
    """Whether a driver of this version answers QUERY; one whose version is not known may."""
    return driver_version is None or int(driver_version.split(".")[0]) >= 510


def parse_query(text: str) -> dict[str, str]:
    """The capabilities by UUID that QUERY gives. Other lines, and GPUs of which it says none, are passed over."""
    return {row[1]: row[2] for row in map(_ROW.fullmatch, map(str.strip, text.splitlines())) if row}


def compute_capability(name: str | None, architecture: str | None) -> str | None:
    """The capability, ``9.0``, of a product as nvidia-smi names it; None for one that is not in the table."""
    for names, capability in _NAMES:
        if name and re.search(rf"(?<![A-Za-z0-9])(?:{names})(?![A-Za-z0-9])", name):
            return capability
    return _ARCHITECTURES.get(architecture or "")
