# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Versions of NVIDIA's driver: its loaded kernel module, and its library as errors name it."""

from __future__ import annotations

import re
from dataclasses import dataclass


def version(text: str | None) -> str | None:
    """The version in a text, without what follows: driver 610 appends ``[Deprecated…]`` to some."""
    match = re.search(r"(?<![\w.])[0-9]{1,4}(?:\.[0-9]{1,4}){1,3}(?![\w.])", text or "")
    return match[0] if match else None


def library_version(text: str) -> str | None:
    """The version of the user-space library, which newer ones say of a mismatch."""
    match = re.search(r"NVML (?:library )?version:\s*([0-9.]{1,20})", text)
    return version(match[1]) if match else None


@dataclass(frozen=True)
class KernelModule:
    """The loaded kernel module; its kind is ``open`` or ``proprietary``, None when it does not say."""

    version: str | None
    kind: str | None


def parse_module(text: str) -> KernelModule:
    """Read ``/proc/driver/nvidia/version``."""
    line = next((line for line in text.splitlines() if "NVRM version" in line), "")
    kind = "open" if "Open Kernel Module" in line else "proprietary" if "Kernel Module" in line else None
    return KernelModule(version(line), kind)
