"""Names of accounts and nodes in templates: Ansible's filter `unique` takes Ada and ada for one, if it is not told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[3] / "roles"
# Those that go through paths and projects with names in them.
OF_NAMES = ("accounts", "client", "ssh_mesh", "workspace")


@pytest.mark.parametrize("role", OF_NAMES)
def test_names_that_capital_letters_tell_apart_are_two(role: str) -> None:
    files = [path for path in (ROLES / role).rglob("*") if path.suffix in {".yml", ".j2"}]
    assert files
    for path in files:
        assert re.findall(r"\| *unique\b(?!\(case_sensitive=true\))", path.read_text()) == [], path
