# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The announcement of the builder on the share, images.json."""

from __future__ import annotations

import json
from typing import Any


def read(text: str) -> dict[str, Any]:
    """The announcement in a text; an empty one where the text is none, or is damaged: the builder writes it anew.

    Each image of the history has its layers. Older boards do not say which; the latest image is of those announced.
    """
    empty: dict[str, Any] = {"schema": 1, "workspace": {}, "layers": [], "history": []}
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return empty
    if not isinstance(found, dict):
        return empty
    board = {name: found[name] if isinstance(found.get(name), type(value)) else value for name, value in empty.items()}
    announced = [layer["ref"] for layer in board["layers"]]
    board["history"] = [
        {**entry, "layers": entry.get("layers", [] if number else announced)}
        for number, entry in enumerate(board["history"])
    ]
    return board
