# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a value was written, as far as Ansible knows it, and whether it came out of a vault."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from ansible.parsing.vault import EncryptedString, is_encrypted


def origin(value: Any) -> tuple[str, int]:
    """The file of the controller that a value or a key was read from, and its line from 1; "" and 0: not known.

    Ansible shows origins in its own messages and has no public way to them. Without its private one there are none.
    """
    try:
        tags = importlib.import_module("ansible._internal._datatag._tags")
        # Errors of Ansible's have one in place of a value.
        found = value if isinstance(value, tags.Origin) else tags.Origin.get_tag(value)
        return (str(found.path or found.description or ""), int(found.line_num or 0)) if found else ("", 0)
    except (ImportError, AttributeError):
        return "", 0


def place(*values: Any) -> str:
    """The first known origin of these, as file:line; a file below the working directory by its path from there."""
    for path, line in map(origin, values):
        if path:
            return f"{relative(path)}:{line}" if line > 0 else relative(path)
    return ""


def relative(path: str) -> str:
    below = os.path.relpath(path) if path.startswith("/") else path
    return path if below.startswith("..") else below


def is_vaulted(value: Any) -> bool:
    """Whether a value as it is written, or something in it, is encrypted, or stands in a file that is."""
    if isinstance(value, EncryptedString) or _is_vault(origin(value)[0]):
        return True
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(is_vaulted(one) for one in inner)


@cache
def _is_vault(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(is_encrypted(file.read(64)))
    except OSError:
        return False
