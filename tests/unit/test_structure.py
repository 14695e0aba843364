"""The shape of the library: rooms by subject, without circles, and tests that lie as their source does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LIBRARY = PROJECT / "plugins" / "module_utils"
PACKAGE = "ansible_collections.gpustead.cluster.plugins.module_utils"
ROOMS = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
# Of what lies beside the library.
OTHER_TESTS = {"bench", "roles"}


def module_name(path: Path) -> str:
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in LIBRARY.rglob("*.py")}


def imported(name: str, path: Path) -> Iterator[str]:
    """The modules of the library that a module of it imports, wherever in it that stands."""
    package = f"{PACKAGE}.{name}".split(".") if path.stem == "__init__" else f"{PACKAGE}.{name}".split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from {alias.name.removeprefix(f"{PACKAGE}.") for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part).removeprefix(PACKAGE).removeprefix(".")
            members = {f"{source}.{alias.name}".removeprefix(".") for alias in node.names}
            # Whoever imports modules of a package imports nothing of what stands in the package itself.
            yield from members & MODULES or {source} & MODULES - {name}


GRAPH = {module_name(path): set(imported(module_name(path), path)) for path in LIBRARY.rglob("*.py")}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle in a graph, as the way around it."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_little_stands_outside_the_rooms() -> None:
    assert len(list(LIBRARY.glob("*.py"))) <= 4


def test_modules_import_one_another_in_no_circle() -> None:
    assert sum(len(found) for found in GRAPH.values()) > 50
    assert circle(GRAPH) == []


def test_rooms_import_one_another_in_no_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for name, found in GRAPH.items():
        room = name.split(".")[0]
        others = {other.split(".")[0] for other in found} - {room}
        rooms.setdefault(room, set()).update(others)
    assert circle(rooms) == []


def test_a_circle_is_found() -> None:
    assert sorted(set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}))) == ["b", "c"]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_says_what_is_in_it(room: str) -> None:
    assert ast.get_docstring(ast.parse((LIBRARY / room / "__init__.py").read_text()))


def test_tests_lie_as_their_source_does() -> None:
    folders = {path.name for path in (PROJECT / "tests" / "unit").iterdir() if any(path.glob("test_*.py"))}
    assert folders - OTHER_TESTS <= ROOMS


# What each room has of its own: what a role or a module goes by, what there is, what is to be, and what came of it.
SHARED_CLASSES = {"Settings", "Observed", "Desired", "Plan", "Outcome", "ActionModule"}


def test_a_class_has_a_name_of_its_own() -> None:
    """So that a word has one meaning in all rooms."""
    files = [*LIBRARY.rglob("*.py"), *(PROJECT / "plugins" / "plugin_utils").glob("*.py")]
    found: dict[str, list[str]] = {}
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(PROJECT)))
    assert {name: where for name, where in found.items() if len(where) > 1 and name not in SHARED_CLASSES} == {}
