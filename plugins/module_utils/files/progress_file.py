# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a module has reached while it runs, in a file for who follows it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Callable

Report = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def reporter(path: str | None) -> Iterator[Report]:
    """Writes what was reached to the file of progress, if there is one, and at last that all has ended."""
    if not path:
        yield lambda event: None
        return
    with open(path, "w", buffering=1, encoding="utf-8") as file:

        def write(event: Mapping[str, Any]) -> None:
            file.write(json.dumps(dict(event)) + "\n")

        try:
            yield write
        finally:
            write({"state": "ended"})
