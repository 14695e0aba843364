"""The commands of the pages in docs/: which they are, where one types them, and what is to be seen then.

A block of commands is fenced as `sh`, and the line before it says, in a comment that readers do not see:

    <!-- on PLACE: run -->                       it ends with 0
    <!-- on PLACE: run, shows: EXPRESSION -->    and this regular expression is found in what it prints
    <!-- on PLACE: run, fails, shows: … -->      it ends with another status
    <!-- on PLACE: not run, REASON -->           no test runs it, and why

A table with the column `Here` has the same before it. `Here` ends with a command, and settings before that stand in the
inventory when it is run:

    | Today | Here | What is different |
    |---|---|---|
    | `run.sh` | `nas_quota: 500G`, then `ansible-playbook …` | It is declared. |

The site shows the place above the block (scripts/docs_site.py, which has the list of places).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARK = re.compile(
    r"<!-- on (?P<place>[\w ]+): (?:run(?P<fails>, fails)?(?:, shows: (?P<shows>.+))?|not run, (?P<reason>.+)) -->"
)


@dataclass(frozen=True)
class Block:
    """Commands of a page.

    Attributes:
        section: heading above it.
        line: its first line in the file.
        place: where one types it.
        script: what one types.
        fails: whether it ends with another status than 0.
        shows: a regular expression for what it prints; empty: anything.
        reason: why no test runs it; empty: one does.
    """

    section: str
    line: int
    place: str
    script: str
    fails: bool = False
    shows: str = ""
    reason: str = ""


def blocks(text: str) -> Iterator[Block]:
    """The blocks of commands of a page, in its order.

    Raises:
        ValueError: one does not say where it is run, or a fence does not say its language.
    """
    section, before, lines = "", "", text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("#"):
            section = line.lstrip("# ")
        if line.lstrip().startswith("```"):
            end = next(at for at in range(number + 1, len(lines)) if lines[at] == "```")
            if line == "```sh":
                mark = MARK.fullmatch(before)
                if not mark:
                    raise ValueError(f"line {number + 1}, in {section!r}: no place before the commands, but {before!r}")
                script = "\n".join(lines[number + 1 : end])
                said = {name: mark[name] or "" for name in ("shows", "reason")}
                yield Block(section, number + 2, mark["place"], script, bool(mark["fails"]), **said)
            elif not re.fullmatch(r"```[a-z]+", line):
                raise ValueError(f"line {number + 1}, in {section!r}: {line!r} does not say what language that is")
            number = end
        before = lines[number]
        number += 1


@dataclass(frozen=True)
class Row:
    """What one types elsewhere, and here.

    Attributes:
        line: its line in the file.
        place: where one types it here.
        today: what one types elsewhere, the first of it.
        settings: lines of YAML that the inventory has for it.
        command: what one types here.
        told: what is different.
    """

    line: int
    place: str
    today: str
    settings: Sequence[str]
    command: str
    told: str


def rows(text: str) -> Iterator[Row]:
    """The rows of a page's tables of commands, in its order.

    Raises:
        ValueError: a table does not say where it is run, or a row has no command.
    """
    lines = text.splitlines()
    for head, line in enumerate(lines):
        if not line.startswith("|") or "Here" not in _cells(line):
            continue
        mark = MARK.fullmatch(lines[head - 1])
        if not mark:
            raise ValueError(f"line {head + 1}: no place before the table, but {lines[head - 1]!r}")
        for number in range(head + 2, len(lines)):
            if not lines[number].startswith("|"):
                break
            today, here, told = _cells(lines[number])
            theirs, ours = _code(today), _code(here)
            if not theirs or not ours:
                raise ValueError(f"line {number + 1}: {lines[number]!r} has no command on both sides")
            yield Row(number + 1, mark["place"], theirs[0], tuple(ours[:-1]), ours[-1], told)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
