# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fields of nvidia-smi's XML: the values in them, and the words that stand where there is none."""

from __future__ import annotations

import re
from xml.etree import ElementTree

# What stands in a field that has no value, and is no sign of anything. nvidia-smi puts some in brackets in tables.
_ABSENT = r"|n/a|none|[\w ]*not (?:supported|available)|(?:requested functionality has been )?deprecated"
# The words of nvmlErrorString and what nvidia-smi makes of some. It writes them where a value should be. From NVML's
# API reference and nvml_error_strings.h of NVIDIA/DCGM, with the older words of pynvml.
ERROR = (
    r"unknown error|err!|error|timeout|uninitialized|already initialized|invalid (?:argument|state)|no data|"
    r"insufficient (?:permissions|size|external power|memory|resources)|driver not loaded|interrupt request issue|"
    r"(?:function |gpu |nvml shared library )?not found|no gpus were found|corrupted inforom|inforom is corrupted|"
    r"gpu is lost|(?:gpu )?requires (?:reset|restart)|gpu access blocked by the operating system|"
    r"the operating system has blocked the request|driver/library version mismatch|argument version mismatch|"
    r"rm has detected an nvml/rm version mismatch|in use by another client|(?:system is )?not (?:in )?ready(?: state)?"
)
_NO_VALUE = re.compile(rf"\[?(?:{_ABSENT}|{ERROR})\.?\]?", re.IGNORECASE)
_SWITCH = {"enabled": True, "disabled": False, "yes": True, "no": False}


def value_in(text: str | None) -> str | None:
    """The text of a field; None where it has no value."""
    text = " ".join((text or "").split())
    return None if _NO_VALUE.fullmatch(text) else text


def number_in(text: str | None, unit: str = "") -> float | None:
    """A number that is followed by this unit; None where it is none."""
    match = re.fullmatch(rf"([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?)\s?{unit}", text or "")
    return float(match[1]) if match else None


def integer_in(text: str | None, unit: str = "") -> int | None:
    """The same without its fraction."""
    number = number_in(text, unit)
    return None if number is None else int(number)


class Fields:
    """Values in an element by path; the first path that has one counts."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def text(self, *paths: str) -> str | None:
        return next((value for path in paths if (value := value_in(self.element.findtext(path)))), None)

    def integer(self, *paths: str, unit: str = "") -> int | None:
        return integer_in(self.text(*paths), unit)

    def watts(self, *names: str) -> float | None:
        groups = ("gpu_power_readings", "power_readings")
        return number_in(self.text(*(f"{group}/{name}" for group in groups for name in names)), "W")

    def switch(self, *paths: str) -> bool | None:
        return _SWITCH.get((self.text(*paths) or "").lower())
