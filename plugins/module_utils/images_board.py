# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the builder announces: root's own record of it on the builder, and images.json on the share, which nodes read.

The share is not root's. What stands there names an image that root will run, so a text is taken as a whole or not at all:
every reference must be one that the builder could have pushed, and everything else what it says it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import shown
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

MOST = 1 << 20  # characters of a text
ENTRIES = 1000  # of each list

_KEY = re.compile("[0-9a-f]{12,64}")
_NAME = re.compile("[a-z0-9]+(?:[._-][a-z0-9]+)*")
_CHAIN = re.compile("[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
_HOST = r"[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?"
_PATH = "[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
_TAG, _DIGEST = ":[0-9a-f]{12}", "@sha256:[0-9a-f]{64}"


def empty() -> dict[str, Any]:
    """What announces nothing."""
    return {"schema": 1, "workspace": {}, "layers": [], "history": [], "problem": ""}


def read(text: str, registry: str = "", repository: str = "") -> dict[str, Any]:
    """The announcement in a text, with an empty `problem`; where that says something, it announces nothing.

    Each image of the history has its layers. Older boards do not say which; the latest image is of those announced.

    Args:
        text: JSON; empty where there is no file.
        registry: the only one, as host:port, that references may name; by default any.
        repository: what their names begin with, before a slash; by default anything.
    """
    board = empty()
    if not text:
        return board
    try:
        found = _parse(text)
        place = f"(?:{re.escape(registry) if registry else _HOST})/{re.escape(repository) if repository else _PATH}/"
        tagged, fixed = (re.compile(f"{place}{_CHAIN.pattern}{end}") for end in (_TAG, _DIGEST))
        board["layers"] = [_layer(one, tagged) for one in _list("layers", found.get("layers"))]
        announced = [layer["ref"] for layer in board["layers"]]
        board["history"] = [
            _image("history", one, fixed, tagged, [] if number else announced)
            for number, one in enumerate(_list("history", found.get("history")))
        ]
        workspace = found.get("workspace")
        if workspace:
            image = _image("workspace", workspace, fixed, tagged, [])
            board["workspace"] = {"ref": image["ref"], "key": image["key"]}
    except GpusteadError as error:
        return {**empty(), "problem": f"{error.what}: expected {error.expected}"}
    return board


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
        raise GpusteadError(f"{name} in {place} is {shown(str(value))}", expected, "")
    return value


def _number(place: str, entry: Mapping[str, Any], name: str, kind: Callable[[Any], Any]) -> Any:
    value = entry.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, kind)) or not 0 <= value < 1e15):
        raise GpusteadError(f"{name} in {place} is {shown(str(value))}", "a number, or null", "")
    return value


def _reference(place: str, entry: Any, pattern: re.Pattern[str]) -> str:
    expected = "an image that the builder pushes to this cluster's registry and repository, by its digest or key"
    return _taken(place, entry, "ref", pattern, expected)


def _layer(entry: Any, tagged: re.Pattern[str]) -> dict[str, Any]:
    return {
        "name": _taken("layers", entry, "name", _NAME, "the name of a layer"),
        "chain": _taken("layers", entry, "chain", _CHAIN, "names of layers"),
        "key": _taken("layers", entry, "key", _KEY, "hex digits"),
        "ref": _reference("layers", entry, tagged),
        "size": _number("layers", entry, "size", int),
        "seconds": _number("layers", entry, "seconds", float),
    }


def _image(
    place: str, entry: Any, fixed: re.Pattern[str], tagged: re.Pattern[str], layers: Sequence[str]
) -> dict[str, Any]:
    ref = _reference(place, entry, fixed)
    own = _list(f"layers in {place}", entry.get("layers", layers))
    return {
        "ref": ref,
        "key": _taken(place, entry, "key", _KEY, "hex digits"),
        "layers": [_reference(f"layers in {place}", {"ref": layer}, tagged) for layer in own],
    }
