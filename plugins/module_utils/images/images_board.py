# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the builder announces: root's own record of it on the builder, and images.json on the share, which nodes read.

The share is not root's. What stands there names an image that root will run, so a text is taken as a whole or not at
all: every reference must be one that the builder could have pushed, and everything else what it says it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

MOST = 1 << 20  # characters of a text
ENTRIES = 1000  # of each list

_KEY = re.compile("[0-9a-f]{12,64}")
_NAME = re.compile("[a-z0-9]+(?:[._-][a-z0-9]+)*")
_CHAIN = re.compile("[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
# Registry, repository, what the image is made of.
_IMAGE = r"(?P<place>[A-Za-z0-9.:\[\]-]+/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_TAGGED = re.compile(f"{_IMAGE}:[0-9a-f]{{12}}")
_FIXED = re.compile(f"{_IMAGE}@sha256:[0-9a-f]{{64}}")


def empty() -> dict[str, Any]:
    """What announces nothing."""
    return {"schema": 1, "workspace": {}, "layers": [], "history": [], "problem": ""}


def read(text: str, place: str = "") -> dict[str, Any]:
    """The announcement in a text, with an empty `problem`; where that says something, it announces nothing.

    Each image of the history has its layers. Older boards do not say which; the latest image is of those announced.

    Args:
        text: JSON; empty where there is no file.
        place: registry and repository, such as `10.1.0.5:5000/gpustead`, that the image in use must come from; layers
            and earlier images of another place are left out. By default any.
    """
    board = empty()
    if not text:
        return board
    try:
        found = _parse(text)
        layers = [_layer(one) for one in _list("layers", found.get("layers"))]
        announced = [layer["ref"] for layer in layers]
        history = [
            _image("history", one, [] if number else announced)
            for number, one in enumerate(_list("history", found.get("history")))
        ]
        workspace = _image("workspace", found["workspace"], []) if found.get("workspace") else None
        if workspace and not _lies(workspace, place):
            raise GpusteadError(f"ref in workspace is {shown(workspace['ref'])}", f"an image in {place}", "")
    except GpusteadError as error:
        return {**board, "problem": f"{error.what}: expected {error.expected}"}
    return {
        **board,
        "workspace": {"ref": workspace["ref"], "key": workspace["key"]} if workspace else {},
        "layers": [layer for layer in layers if _lies(layer, place)],
        "history": [image for image in history if _lies(image, place)],
    }


def _lies(entry: Mapping[str, Any], place: str) -> bool:
    match = _FIXED.fullmatch(entry["ref"]) or _TAGGED.fullmatch(entry["ref"])
    return not place or bool(match and match["place"] == place)


def _parse(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if len(text) <= MOST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise GpusteadError("the text", f"a JSON object of schema 1, of at most {MOST >> 20} MiB", "")
    return found


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > ENTRIES:
        raise GpusteadError(name, f"a list of at most {ENTRIES}", "")
    return value


def _taken(place: str, entry: Any, name: str, pattern: re.Pattern[str], expected: str) -> str:
    """A text of an entry that is as it must be."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise GpusteadError(f"{name} in {place} is {shown(value)}", expected, "")
    return value


def _number(place: str, entry: Mapping[str, Any], name: str) -> Any:
    value = entry.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15):
        raise GpusteadError(f"{name} in {place} is {shown(value)}", "a number, or null", "")
    return value


def _reference(place: str, entry: Any, pattern: re.Pattern[str]) -> str:
    how = "its digest" if pattern is _FIXED else "its key"
    return _taken(place, entry, "ref", pattern, f"an image of a registry and a repository, by {how}")


def _layer(entry: Any) -> dict[str, Any]:
    return {
        "name": _taken("layers", entry, "name", _NAME, "the name of a layer"),
        "chain": _taken("layers", entry, "chain", _CHAIN, "the names of layers"),
        "key": _taken("layers", entry, "key", _KEY, "hex digits"),
        "ref": _reference("layers", entry, _TAGGED),
        "size": _number("layers", entry, "size"),
        "seconds": _number("layers", entry, "seconds"),
    }


def _image(place: str, entry: Any, layers: Sequence[str]) -> dict[str, Any]:
    ref = _reference(place, entry, _FIXED)
    own = _list(f"layers in {place}", entry.get("layers", layers))
    return {
        "ref": ref,
        "key": _taken(place, entry, "key", _KEY, "hex digits"),
        "layers": [_reference(f"layers in {place}", {"ref": layer}, _TAGGED) for layer in own],
    }
