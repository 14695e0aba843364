# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of the images in use, which the builder writes: for root on the builder, and images.json on the share.

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

MAX_LENGTH = 1 << 20  # characters of a text
MAX_ENTRIES = 1000  # of each list

_KEY = re.compile("[0-9a-f]{12,64}")
_NAME = re.compile("[a-z0-9]+(?:[._-][a-z0-9]+)*")
_CHAIN = re.compile("[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
# Registry, repository, what the image is made of.
_IMAGE = r"(?P<place>[A-Za-z0-9.:\[\]-]+/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_TAGGED = re.compile(f"{_IMAGE}:[0-9a-f]{{12}}")
_FIXED = re.compile(f"{_IMAGE}@sha256:[0-9a-f]{{64}}")


def empty() -> dict[str, Any]:
    """A record that names no image."""
    return {"schema": 1, "workspace": {}, "layers": [], "history": [], "problem": ""}


def read(text: str, place: str = "") -> dict[str, Any]:
    """The record in a text, with an empty `problem`; where that says something, the record is empty.

    Each image of the history has its layers. Older records do not say which; the latest image is of those at the top.

    Args:
        text: JSON; empty where there is no file.
        place: registry and repository, such as `10.1.0.5:5000/gpustead`, that the image in use must come from; layers
            and earlier images of another place are left out. By default any.
    """
    record = empty()
    if not text:
        return record
    try:
        found = _parse(text)
        layers = [_layer(one) for one in _list("layers", found.get("layers"))]
        latest = [layer["ref"] for layer in layers]
        history = [
            _image("history", one, [] if number else latest)
            for number, one in enumerate(_list("history", found.get("history")))
        ]
        workspace = _image("workspace", found["workspace"], []) if found.get("workspace") else None
        if workspace and not lies_in(workspace, place):
            raise GpusteadError(f"ref in workspace is {shown(workspace['ref'])}", f"an image in {place}", "")
    except GpusteadError as error:
        return {**record, "problem": f"{error.what}: expected {error.expected}"}
    return {
        **record,
        "workspace": {"ref": workspace["ref"], "key": workspace["key"]} if workspace else {},
        "layers": [layer for layer in layers if lies_in(layer, place)],
        "history": [image for image in history if lies_in(image, place)],
    }


def lies_in(entry: Mapping[str, Any], place: str) -> bool:
    """Whether an image of a record is one of this registry and repository; empty: any."""
    match = _FIXED.fullmatch(entry["ref"]) or _TAGGED.fullmatch(entry["ref"])
    return not place or bool(match and match["place"] == place)


def _parse(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if len(text) <= MAX_LENGTH else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise GpusteadError("the text", f"a JSON object of schema 1, of at most {MAX_LENGTH >> 20} MiB", "")
    return found


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise GpusteadError(name, f"a list of at most {MAX_ENTRIES}", "")
    return value


def _text(place: str, entry: Any, name: str, pattern: re.Pattern[str], expected: str) -> str:
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
    return _text(place, entry, "ref", pattern, f"an image of a registry and a repository, by {how}")


def _layer(entry: Any) -> dict[str, Any]:
    return {
        "name": _text("layers", entry, "name", _NAME, "the name of a layer"),
        "chain": _text("layers", entry, "chain", _CHAIN, "the names of layers"),
        "key": _text("layers", entry, "key", _KEY, "hex digits"),
        "ref": _reference("layers", entry, _TAGGED),
        "size": _number("layers", entry, "size"),
        "seconds": _number("layers", entry, "seconds"),
    }


def _image(place: str, entry: Any, layers: Sequence[str]) -> dict[str, Any]:
    ref = _reference(place, entry, _FIXED)
    own = _list(f"layers in {place}", entry.get("layers", layers))
    return {
        "ref": ref,
        "key": _text(place, entry, "key", _KEY, "hex digits"),
        "layers": [_reference(f"layers in {place}", {"ref": layer}, _TAGGED) for layer in own],
    }
