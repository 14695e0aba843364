"""The examples and the references of modules: enough of them, and with nothing that the module does not take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
MODULES = sorted((PROJECT / "plugins/modules").glob("*.py"))


def documentation(path: Path, name: str) -> Any:
    """A documentation string of a module, read."""
    found = re.search(rf'^{name} = r"""\n(.*?)"""', path.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{path.name} has no {name}"
    return yaml.safe_load(found[1])


def tasks(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks, those in blocks, too."""
    for task in found:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part, []))


def wrong(given: Any, options: Mapping[str, Any], place: str) -> Iterator[str]:
    """What arguments have that the options do not, and the other way round."""
    if not isinstance(given, Mapping):
        return
    yield from (f"{place}{name} is unknown" for name in given if name not in options)
    for name, option in options.items():
        if option.get("required") and name not in given:
            yield f"{place}{name} is missing"
        value = given.get(name)
        if value is not None and value not in option.get("choices", [value]) and not isinstance(value, list):
            yield f"{place}{name} is {value!r}"
        if "suboptions" in option:
            for one in value if isinstance(value, list) else [value]:
                yield from wrong(one, option["suboptions"], f"{place}{name}.")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_has_three_examples_and_names_what_is_near(path: Path) -> None:
    examples = documentation(path, "EXAMPLES")
    assert len(examples) >= 3
    assert documentation(path, "DOCUMENTATION")["seealso"]
    names = [example["name"] for example in examples]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_an_example_has_what_the_module_takes(path: Path) -> None:
    options = documentation(path, "DOCUMENTATION").get("options", {})
    mine = f"gpustead.cluster.{path.stem}"
    own = [task for task in tasks(documentation(path, "EXAMPLES")) if mine in task]
    assert own
    assert [fault for task in own for fault in wrong(task[mine] or {}, options, "")] == []


def test_what_an_example_must_not_have_is_found() -> None:
    options = {"a": {"required": True}, "b": {"choices": ["x"]}, "c": {"suboptions": {"d": {"required": True}}}}
    assert [*wrong({"b": "y", "c": [{"e": 1}], "f": 2}, options, "")] == [
        "f is unknown", "a is missing", "b is 'y'", "c.e is unknown", "c.d is missing",
    ]  # fmt: skip
