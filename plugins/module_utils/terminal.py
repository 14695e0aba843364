# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text of other people's, as it may be shown: an escape sequence would move the cursor of whoever reads it."""

from __future__ import annotations

from typing import Any


def shown(text: object, limit: int = 400) -> str:
    """One line of printable characters.

    Args:
        text: whatever an account, a container or a file of theirs said; anything else by its str().
        limit: longest result, in characters; the rest is cut and an ellipsis says so.

    Control characters, ends of line and what changes the direction of writing are written as Python writes them.
    """
    plain = "".join(one if one.isprintable() else _escaped(one) for one in str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def shown_in(value: Any, limit: int = 4000) -> Any:
    """The same of every text in a value of JSON, of its keys as well."""
    if isinstance(value, str):
        return shown(value, limit)
    if isinstance(value, dict):
        return {shown_in(key, limit): shown_in(inner, limit) for key, inner in value.items()}
    return [shown_in(inner, limit) for inner in value] if isinstance(value, (list, tuple)) else value


def _escaped(character: str) -> str:
    # Not by a codec: it would be imported, which a child with an account's ids may not be able to.
    return repr(character)[1:-1]
