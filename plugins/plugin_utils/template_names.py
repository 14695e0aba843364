# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The names that stand in templates, as far as they can be read without rendering them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

VARIABLE = re.compile(r"(?<![\w.])[A-Za-z_]\w*")  # behind a dot stands what something has
TEMPLATE = re.compile(r"{[{%]")
# A key of a task, and its lines: those that follow are indented more.
MESSAGE = re.compile(r"^( *)(?:fail_msg|msg): .*\n(?:\1 +.*\n)*", re.MULTILINE)
# Lookups that give every host the same, by a name of our own.
SAME = re.compile(
    r"\b(?:lookup|query|q)\(\s*(?=['\"](?:ansible\.(?:builtin|legacy)\.)?(?:env|file|fileglob|unvault)['\"])"
)


def texts(values: Iterable[Any]) -> Iterator[str]:
    """The templates in values, however deep they lie."""
    todo = list(values)
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            if "{{" in value or "{%" in value:
                yield value
        elif isinstance(value, Mapping):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value


def identifiers(values: Iterable[Any]) -> set[str]:
    """The identifiers in the templates of values."""
    return {
        name
        for text in texts(values)
        for inner in templates(text)
        for name in VARIABLE.findall(SAME.sub("lookups(", inner))
    }


def templates(text: str) -> Iterator[str]:
    """What of a text is rendered. A dictionary in it may end in the same braces: up to the last ones counts."""
    for piece in TEMPLATE.split(text)[1:]:
        end = max(piece.rfind("}}"), piece.rfind("%}"))
        yield piece[:end] if end >= 0 else piece


def without_messages(text: str) -> str:
    """The tasks of a role without what they say to people: names of variables in it are no use of them."""
    return MESSAGE.sub(lambda found: "\n".join([*templates(found[0]), ""]), text)
