# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list of nvidia-smi, ``-L``: the GPUs, and their MIG devices below them."""

from __future__ import annotations

import re
from dataclasses import dataclass

LIST = ("-L",)


@dataclass(frozen=True)
class MigName:
    """What only ``-L`` says of a MIG device."""

    position: int
    profile: str
    uuid: str


@dataclass(frozen=True)
class Listed:
    """A line of ``-L`` with the MIG devices under it."""

    index: int
    name: str
    uuid: str
    mig: tuple[MigName, ...] = ()


# What a line ends with; MIG devices of old drivers are named MIG-GPU-<uuid>/<instance>/<instance>.
_UUID = re.compile(r"\(UUID: ([A-Za-z0-9/-]{1,80})\)")
_LISTED = re.compile(r"GPU ([0-9]{1,3}): (.*) \(UUID: (\S+)\)")
# Either of them, in whatever form.
_ENTRY = re.compile(r"(\s*)(?:GPU|MIG)\s")
_LISTED_MIG = re.compile(r"\s+MIG (\S+)\s+Device\s+([0-9]{1,3}): \(UUID: (\S+)\)")


def parse_list(text: str) -> tuple[Listed, ...]:
    """Read ``-L``, by index. Lines that are none (warnings) are passed over."""
    found: dict[int, Listed] = {}
    current: Listed | None = None
    for line in (line.rstrip() for line in text.splitlines()):
        if match := _LISTED.fullmatch(line):
            current = Listed(int(match[1]), match[2], match[3])
        elif current and (match := _LISTED_MIG.fullmatch(line)):
            mig = (*current.mig, MigName(int(match[2]), match[1], match[3]))
            current = Listed(current.index, current.name, current.uuid, mig)
        else:
            continue
        found[current.index] = current
    return tuple(found[index] for index in sorted(found))


def uuid_in(line: str) -> str | None:
    """The UUID of a GPU or a MIG device that a line of ``-L`` names; None for other words."""
    match = _UUID.search(line)
    return match[1] if match else None


def usable_uuids(text: str) -> tuple[str, ...]:
    """What can be computed on: MIG devices, and GPUs that show none."""
    found: list[tuple[bool, str]] = []
    for line in text.splitlines():
        match, uuid = _ENTRY.match(line), uuid_in(line)
        if not match or uuid is None:
            continue
        instance = bool(match[1])
        if instance and found and not found[-1][0]:
            found.pop()  # the GPU that is divided
        found.append((instance, uuid))
    return tuple(uuid for _first, uuid in found)
