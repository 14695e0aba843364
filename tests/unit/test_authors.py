"""Authors are named in the form that ansible-test takes from modules, by plugins and roles alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NAMED = sorted(
    path
    for pattern in ("plugins/*/*.py", "roles/*/meta/main.yml")
    for path in PROJECT.glob(pattern)
    if re.search(r"^(short_description| *galaxy_info):|^  short_description:", path.read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("path", NAMED, ids=lambda path: str(path.relative_to(PROJECT)))
def test_an_author_has_a_name_and_a_handle(path: Path) -> None:
    assert re.findall(r"^ *author: (.*)$", path.read_text(), re.MULTILINE) == ["The gpustead developers (@gpustead)"]
