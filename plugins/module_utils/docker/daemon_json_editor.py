# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of daemon.json: read strictly, with the position of every value, and edited value by value.

What is not changed stays as it is, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

SPACE = " \t\r\n"
HINTS = {
    "\ufeff": "Save it as UTF-8 without a byte-order mark",
    "/": "Remove the comment: JSON has none",
    "#": "Remove the comment: JSON has none",
    "'": 'Use straight double quotes (")',
    **dict.fromkeys(
        "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb", 'Replace the typographic quotes by straight ones (")'
    ),
}


@dataclass(frozen=True)
class Node:
    """A value and where it stands: text[start:end]."""

    value: Any
    start: int
    end: int
    members: tuple[Member, ...] = ()
    tail: str = ""


@dataclass(frozen=True)
class Member:
    """A key of an object: `lead` is the white space before it, `head` reaches from the key to its value."""

    key: str
    lead: str
    head: str
    node: Node
    trail: str


class _Parser:
    """A strict reader of JSON that knows where everything stands."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.scalars = json.JSONDecoder(parse_constant=self.constant)

    def fail(self, at: int, expected: str, remedy: str = "") -> NoReturn:
        line, column = self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)
        found = self.text[at : at + 1]
        seen = repr(found) if found else "the end of the file"
        advice = remedy or HINTS.get(found, "Correct it there")
        raise GpusteadError(
            f"{self.path} line {line} column {column}: {seen}", expected, f"{advice}; Docker was left as it is."
        )

    def constant(self, name: str) -> NoReturn:
        raise ValueError(name)

    def skip(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in SPACE:
            at += 1
        return at

    def document(self) -> Node:
        start = self.skip(0)
        if start == len(self.text):  # to dockerd, an empty file says nothing
            return Node({}, start, start)
        if self.text[start] != "{":
            self.fail(start, 'an object, which begins with "{"')
        node = self.value(start)
        rest = self.skip(node.end)
        if rest < len(self.text):
            found = self.text[rest]
            advice = (
                "Merge the second document into the first"
                if found == "{"
                else f"Remove the {found!r} that is too many, here or before"
                if found in ",}]"
                else ""
            )
            self.fail(rest, "nothing after the end of the object", advice)
        return node

    def value(self, at: int) -> Node:
        if self.text[at : at + 1] == "{":
            return self.object(at)
        if self.text[at : at + 1] == "[":
            return self.array(at)
        try:
            value, end = self.scalars.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            self.fail(error.pos, "a value" if error.pos == at else f"a valid string ({error.msg})")
        except ValueError:
            self.fail(at, "a value that JSON knows", "NaN and Infinity are none: correct it there")
        return Node(value, at, end)

    def string(self, at: int) -> tuple[str, int]:
        if self.text[at : at + 1] != '"':
            self.fail(at, 'a key in double quotes (")')
        node = self.value(at)
        return str(node.value), node.end

    def object(self, start: int) -> Node:
        members: list[Member] = []
        values: dict[str, Any] = {}
        at = start + 1
        while True:
            begin = self.skip(at)
            if self.text[begin : begin + 1] == "}" and not members:
                return Node(values, start, begin + 1, (), self.text[at:begin])
            if self.text[begin : begin + 1] == "}":
                self.fail(begin, "another key after the comma", "Remove the comma before it")
            key, end = self.string(begin)
            if key in values:
                self.fail(
                    begin,
                    f"each key once, and {key!r} stood there before",
                    "Remove one of the two: dockerd takes the last",
                )
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.fail(colon, f'":" after the key {key!r}')
            node = self.value(self.skip(colon + 1))
            after = self.skip(node.end)
            values[key] = node.value
            members.append(
                Member(key, self.text[at:begin], self.text[begin : node.start], node, self.text[node.end : after])
            )
            at = after + 1
            if self.text[after : after + 1] == "}":
                return Node(values, start, at, tuple(members), self.text[node.end : after])
            if self.text[after : after + 1] != ",":
                self.fail(after, f'"," or "}}" after the value of {key!r}')

    def array(self, start: int) -> Node:
        values: list[Any] = []
        at = self.skip(start + 1)
        if self.text[at : at + 1] == "]":
            return Node(values, start, at + 1)
        while True:
            node = self.value(at)
            values.append(node.value)
            after = self.skip(node.end)
            if self.text[after : after + 1] == "]":
                return Node(values, start, after + 1)
            if self.text[after : after + 1] != ",":
                self.fail(after, '"," or "]" after a value in a list')
            at = self.skip(after + 1)


def decode(raw: bytes, path: str) -> str:
    """The text of the file, which must be UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise GpusteadError(
            f"{path} line {line} column {column}: byte 0x{raw[error.start]:02x}",
            "UTF-8",
            "Save it as UTF-8; Docker was left as it is.",
        ) from None


def parse(text: str, path: str) -> Node:
    """Read the file, or say what is wrong with it and where."""
    return _Parser(text, path).document()


def same(left: Any, right: Any) -> bool:
    """Equal also in type: to dockerd, true is not 1 and "5" is not 5."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _dump(value: Any, unit: str, margin: str) -> str:
    if not unit:
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", "\n" + margin)


def _edit(text: str, node: Node, wanted: Any, unit: str, margin: str) -> str:
    """The text of `node` with the least changes that make it say `wanted`."""
    if same(node.value, wanted):
        return text[node.start : node.end]
    if not (isinstance(node.value, dict) and isinstance(wanted, dict) and wanted):
        return _dump(wanted, unit, margin)
    members = node.members
    # What stands on one line stays on one line.
    style = unit if not members or "\n" in members[-1].lead else ""
    lead = (members[-1].lead or " ") if members else f"\n{margin}{unit}" if unit else " "
    inner = lead.rpartition("\n")[2] if style else ""
    parts: list[str] = []
    for member in members:
        if member.key in wanted:
            value = _edit(text, member.node, wanted[member.key], style, inner)
            before = member.lead if parts else members[0].lead
            parts.append(before + member.head + value + ("" if member is members[-1] else member.trail))
    for key, value in wanted.items():
        if key not in node.value:
            before = members[0].lead if members and not parts else lead
            parts.append(f"{before}{json.dumps(key, ensure_ascii=False)}: {_dump(value, style, inner)}")
    tail = node.tail if members else f"\n{margin}" if unit else " "
    return "{" + ",".join(parts) + tail + "}"


def render(text: str, node: Node, wanted: Mapping[str, Any]) -> str:
    """The whole file with the wanted content, in the style that it has."""
    if node.start == node.end:
        return _dump(dict(wanted), "  ", "") + "\n"
    lead = node.members[0].lead if node.members else "\n  "
    unit = lead.rpartition("\n")[2] if "\n" in lead else ""
    return text[: node.start] + _edit(text, node, dict(wanted), unit, "") + text[node.end :]


def where(text: str, node: Node, key: str) -> str:
    for member in node.members:
        if member.key == key:
            at = member.node.start - len(member.head)
            return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}: "
    return ""
