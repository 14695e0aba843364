"""docs/architecture.md: what it names is there, and its recipes lead to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "architecture.md").read_text()
SECTIONS = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
RECIPES = {title: text for title, text in SECTIONS.items() if title.startswith("Recipe: ")}
TOP = {path.name for path in PROJECT.iterdir()}
# A step of a recipe: the file, then what is to be written there.
STEPS = [
    pytest.param(path, re.findall(r"`([^`]+)`", rest), id=f"{title.removeprefix('Recipe: ')}: {path}")
    for title, text in RECIPES.items()
    for path, rest in re.findall(r"^- `([^`]+)`: (.*)$", text, re.MULTILINE)
]


def rows(title: str) -> list[str]:
    """The first cells of the table in a section."""
    return re.findall(r"^\| `(\w+)` \|", SECTIONS[title], re.MULTILINE)


def test_every_room_is_on_the_map() -> None:
    library = PROJECT / "plugins" / "module_utils"
    assert sorted(rows("Rooms of the library")) == sorted(path.parent.name for path in library.glob("*/__init__.py"))
    assert {f"`{path.stem}`" for path in library.glob("*.py")} <= set(
        re.findall(r"`\w+`", SECTIONS["Rooms of the library"])
    )


def test_every_role_is_on_the_map_in_its_order() -> None:
    order = re.findall(r"name: gpustead\.cluster\.(\w+)", (PROJECT / "playbooks" / "tasks" / "roles.yml").read_text())
    order.remove("firewall")  # the servers', before the share
    assert rows("Roles") == [*order, "client", "lab"]
    assert set(rows("Roles")) == {path.name for path in (PROJECT / "roles").iterdir()}


def test_every_role_runs_on_the_groups_of_its_receipt() -> None:
    cells = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", SECTIONS["Roles"], re.MULTILINE)
    named = {role: re.findall(r"`(\w+)`", cell) for role, cell in cells if role not in ("client", "lab")}
    receipts = {role: yaml.safe_load((PROJECT / "roles" / role / "meta" / "receipt.yml").read_text()) for role in named}
    assert named == {role: receipt["groups"] for role, receipt in receipts.items()}


def test_rooms_of_roles_are_rooms() -> None:
    named = re.findall(r"^\| `\w+` \| ([^|]*) \|", SECTIONS["Roles"], re.MULTILINE)
    assert {room for cell in named for room in re.findall(r"`(\w+)`", cell)} <= set(rows("Rooms of the library"))


@pytest.mark.parametrize(
    "path", sorted({word for word in re.findall(r"`([^` ]+)`", PAGE) if word.split("/")[0] in TOP})
)
def test_every_path_exists(path: str) -> None:
    assert any(PROJECT.glob(path.rstrip("/")))


@pytest.mark.parametrize("name", re.findall(r"`(\w+/\w+)`", SECTIONS["Why these are our own"]))
def test_our_own_parts_are_in_the_library(name: str) -> None:
    assert (PROJECT / "plugins" / "module_utils" / f"{name}.py").exists()


@pytest.mark.parametrize(("path", "names"), STEPS)
def test_a_recipe_names_what_is_in_its_files(path: str, names: list[str]) -> None:
    files = sorted(PROJECT.glob(path))
    assert files
    texts = [file.read_text(errors="replace") for file in files]
    missing = [
        name
        for name in names
        if name.split("/")[0] not in TOP and not name.startswith("make ") and not any(name in text for text in texts)
    ]
    assert missing == []


def test_the_recipes_are_there() -> None:
    assert len(RECIPES) >= 3
    assert len(STEPS) >= 10


def test_plugins_name_the_library_as_it_is() -> None:
    library = PROJECT / "plugins" / "module_utils"
    named = {
        (path.relative_to(PROJECT), name)
        for path in (PROJECT / "plugins").rglob("*.py")
        for name in re.findall(r"(?<!\w)module_utils/([\w/]+)", path.read_text())
    }
    assert [one for one in sorted(named) if not any(library.glob(f"{one[1]}*"))] == []
