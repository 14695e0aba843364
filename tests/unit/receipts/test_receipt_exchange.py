"""The program that goes to a host: what is left out of it, and that the Pythons of hosts can read it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import agent
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import MARK, bare, exchange, library

SOURCE = '''"""A module
of two lines."""

import os  # what it needs


class Thing:
    """Only this."""


def told(thing, names):
    """What it gives.

    More of it.
    """
    # Why.
    kept = "# not a comment"
    text = """
    # nor this
"""
    return f"{thing['name']!r}: {', '.join(f'{name:>{4}}' for name in names)}" + kept + text
'''
OLDER = [found for minor in (9, 10, 11) if (found := shutil.which(f"python3.{minor}", path="/usr/bin:/usr/local/bin"))]


def test_comments_and_docstrings_are_left_out_and_nothing_else() -> None:
    left = bare(SOURCE)
    assert "two lines" not in left and "Only this" not in left and "More of it" not in left
    assert "what it needs" not in left and "Why" not in left
    names: dict[str, Any] = {}
    exec(compile(left, "left", "exec"), names)
    assert names["told"]({"name": "a"}, ["b", "c"]) == "'a':    b,    c# not a comment\n    # nor this\n"


def test_what_is_left_stands_as_it_was_written() -> None:
    """A newer Python writes an f-string anew with quotes in it that an older one cannot read."""
    left = bare(SOURCE)
    (text, *_inner) = (node for node in ast.walk(ast.parse(left)) if isinstance(node, ast.JoinedStr))
    assert (ast.get_source_segment(left, text) or "none") in SOURCE


@pytest.mark.skipif(not OLDER, reason="no Python older than 3.12 is installed here")
@pytest.mark.parametrize("python", OLDER)
def test_an_older_python_reads_all_of_it(python: str) -> None:
    check = "import json,sys\nfor name, source in json.load(sys.stdin).items(): compile(source, name, 'exec')"
    done = subprocess.run(
        [python, "-I", "-c", check], input=json.dumps(library()), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class Action:
    """An action whose host prints what it is given."""

    def __init__(self, stdout: str) -> None:
        self.stdout = stdout

    def _low_level_execute_command(self, _command: str, in_data: bytes) -> dict[str, object]:
        assert in_data
        return {"stdout": self.stdout, "stderr": "", "rc": 0}


@pytest.mark.parametrize("before", ["", "\n", "Welcome to gpu01\n"])
def test_an_answer_may_quote_the_mark(before: str) -> None:
    """An account names a link so, and it is in the reason why a role is stale."""
    answer = {"reasons": [f"link {MARK} is new", f"{MARK}{{}}"]}
    action: Any = Action(f"{before}{MARK}{json.dumps(answer)}\n")
    assert exchange(action, "python3", {}) == answer


def test_the_agent_is_part_of_it() -> None:
    assert agent.__name__ in library()
