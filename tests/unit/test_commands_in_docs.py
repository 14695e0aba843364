"""Commands that people copy: none is without an inventory, as there is none by default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "roles").glob("*/README.md")]
PLAYBOOKS = [*(ROOT / "playbooks").glob("**/*.yml"), *(ROOT / "playbooks" / "templates").glob("*.j2")]
# With a playbook behind it: a name alone is a word of a sentence.
COMMAND = re.compile(r"ansible-playbook\b(?P<words>[^`\n]*?(?:\.yml|gpustead\.cluster\.\w+)[^`\n]*)")


@pytest.mark.parametrize("page", [*PAGES, *PLAYBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_has_an_inventory(page: Path) -> None:
    commands = [found[0] for found in COMMAND.finditer(page.read_text())]
    assert [one for one in commands if not re.search(r" -i |__summary_inventory", one)] == []
