"""The program that goes to a host: that it is whole, and that the Pythons of hosts can read it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import agent
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import MARK, PACKAGE, exchange, library
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

OLDER = [found for minor in (9, 10, 11) if (found := shutil.which(f"python3.{minor}", path="/usr/bin:/usr/local/bin"))]


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


def modules() -> Iterator[str]:
    """The names of all modules of the library."""
    folder = COLLECTION / "plugins/module_utils"
    for path in folder.rglob("*.py"):
        yield ".".join([PACKAGE, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")


def test_the_agent_is_part_of_it() -> None:
    assert agent.__name__ in library()


def test_what_is_imported_anywhere_is_part_of_it() -> None:
    """What it finds by the code's layout is what Python finds in it."""
    sources, there = library(), {*modules()}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{PACKAGE}."):
                inner = {f"{node.module}.{one.name}" for one in node.names}
                assert {node.module, *inner & there} <= sources.keys(), name
            assert not (isinstance(node, ast.Import) and any(one.name.startswith(PACKAGE) for one in node.names)), name
            assert not (isinstance(node, ast.ImportFrom) and node.level), name
