"""Nothing in the library is used by tests alone."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
USERS = ("plugins", "roles", "playbooks", "scripts", "bench", "molecule")
LIBRARY = ("plugins/module_utils", "plugins/plugin_utils")
# What Python itself and ctypes ask for.
OF_PYTHON = re.compile("_.*_")


def words(path: Path) -> Counter[str]:
    return Counter(re.findall(r"\w+", path.read_text(errors="replace")))


def names(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Functions, classes and constants of a module, and methods and fields of its classes."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        if isinstance(node, ast.ClassDef):
            yield from names(node)


def test_everything_is_used_by_more_than_tests() -> None:
    """A name counts as used where its file has it twice, or where another file has it: that cannot accuse wrongly."""
    paths = [path for top in USERS for path in (PROJECT / top).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = {path: words(path) for path in paths}
    files = Counter(word for counted in found.values() for word in counted)
    library = [path for top in LIBRARY for path in (PROJECT / top).rglob("*.py")]
    assert library
    unused = [
        f"{path.relative_to(PROJECT)}: {name}"
        for path in library
        for name in names(ast.parse(path.read_text()))
        if found[path][name] == 1 and files[name] == 1 and not OF_PYTHON.fullmatch(name)
    ]
    assert unused == []
