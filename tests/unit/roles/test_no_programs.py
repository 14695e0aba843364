"""Roles and playbooks name fields of plans that the library makes: there is no program in their Jinja."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
LINES = 3
SETS = re.compile(r"{%-?\s*set\s+_+\s*=")
YAML_FILES = sorted(path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml"))
TEMPLATES = sorted(path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.j2"))


def values(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from values(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            yield from values(item)


def programs(path: Path) -> list[str]:
    """The values of a file that are programs, each with the line where it begins and why.

    An expression counts from {{ to }}, so that a message may be as long as it has to be; statements from the first to
    the last.
    """
    text, found = path.read_text(), []
    root: Any = yaml.compose(text)
    for value in values(root) if root else ():
        source = text[value.start_mark.index : value.end_mark.index]
        blocks = re.findall(r"{{.*?}}", source, re.DOTALL) + re.findall(r"{%.*%}", source, re.DOTALL)
        length = max((block.count("\n") + 1 for block in blocks), default=0)
        if SETS.search(source):
            found.append(f"line {value.start_mark.line + 1}: sets a variable to throw it away")
        elif length > LINES:
            found.append(f"line {value.start_mark.line + 1}: {length} lines of Jinja")
    return found


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_program_stands_in_a_value(path: Path) -> None:
    assert programs(path) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_throws_nothing_away(path: Path) -> None:
    assert not SETS.search(path.read_text())


PROGRAMS = """\
short: "{{ a }}"
text: |
  one
  {{ two }}
  three
  {{ four }}
three: >-
  {{ a
     | b
     | c }}
four: >-
  {{ a
     | b
     | c
     | d }}
quoted: "{{ a
  | b
  | c
  | d }}"
thrown: "{%- set _ = found.append(1) -%}"
list:
  - that:
      - >-
        {% if a %}
        one
        {% else %}
        two
        {% endif %}
"""


def test_programs_are_found(tmp_path: Path) -> None:
    file = tmp_path / "main.yml"
    file.write_text(PROGRAMS)
    assert programs(file) == [
        "line 11: 4 lines of Jinja",
        "line 16: 4 lines of Jinja",
        "line 20: sets a variable to throw it away",
        "line 23: 5 lines of Jinja",
    ]
