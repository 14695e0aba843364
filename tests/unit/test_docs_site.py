"""The site of the documentation: how pages outside docs/ get there, and that every page can be found."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.gpustead.cluster.scripts import docs_site
from ansible_collections.gpustead.cluster.scripts.docs_site import ROOT, generated, relinked, setting, spaced

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
REPOSITORY = "https://github.com/gpustead/cluster"


def pages(entries: list[dict[str, object]]) -> list[str]:
    """Those of the navigation, in its order."""
    found: list[str] = []
    for entry in entries:
        for value in entry.values():
            found += pages(value) if isinstance(value, list) else [str(value)]
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | set(generated())
    assert sorted(pages(SITE["nav"])) == sorted(there)


@pytest.mark.parametrize(
    ("source", "target", "address"),
    [
        ("README.md", "docs/security.md", "security.md"),
        ("README.md", "roles/nas/README.md", "roles/nas.md"),
        ("docs/security.md", "../roles/nas/README.md#example", "roles/nas.md#example"),
        ("docs/gpus.md", "../README.md#ports", "index.md#ports"),
        ("roles/images/README.md", "../../docs/distribution.md", "../distribution.md"),
        ("roles/images/README.md", "../nas/README.md", "nas.md"),
        ("README.md", "group_vars/all", "settings.md"),
        ("README.md", "LICENSE", f"{REPOSITORY}/blob/main/LICENSE"),
        ("docs/faq.md", "#why", "#why"),
        ("docs/faq.md", "https://example.org/a", "https://example.org/a"),
    ],
)
def test_links_lead_to_the_same_as_before(source: str, target: str, address: str) -> None:
    assert relinked(f"see [it]({target}).", source) == f"see [it]({address}).\n"


def test_a_link_that_leads_nowhere_is_an_error_with_its_place() -> None:
    with pytest.raises(ValueError, match=re.escape("docs/faq.md: the link nowhere.md leads nowhere")):
        relinked("[it](nowhere.md)", "docs/faq.md")
    with pytest.raises(ValueError, match="leads nowhere"):
        relinked("[it](../../elsewhere)", "docs/faq.md")


def test_code_is_left_as_it_is() -> None:
    code = "```yaml\nfirst:\n- [x](nowhere.md)\n```\n"
    assert relinked(code, "docs/faq.md") == code
    assert spaced(code) == code


def test_a_list_has_an_empty_line_before_it() -> None:
    assert spaced("It leaves:\n- one\n  more\n- two\n\n  still two\n- three\nend\n") == (
        "It leaves:\n\n- one\n  more\n- two\n\n  still two\n- three\nend\n"
    )


def test_a_table_has_one_too() -> None:
    assert spaced("```yaml\na: b\n```\n| a |\n|---|\n| b |\n") == "```yaml\na: b\n```\n\n| a |\n|---|\n| b |\n"


def test_a_setting_says_all_that_its_spec_does() -> None:
    option = {
        "description": ["Where <it> is, as C(mount <x>) has it.", "More."],
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "choices": ["a", "b"], "description": "There."}},
    }
    assert setting("nas_mounts", option) == (
        "### `nas_mounts` { #nas_mounts }\n\nlist of dict, default `[]`\n\n"
        "Where &lt;it> is, as `mount <x>` has it.\n\nMore.\n\n- `path` (str, one of `a`, `b`): There.\n"
    )


def test_every_setting_is_on_the_site() -> None:
    made = generated()
    for role in docs_site.ROLES:
        for name in docs_site.spec(f"roles/{role}/meta/argument_specs.yml"):
            assert f"{{ #{name} }}" in made[f"roles/{role}.md"]
            assert f"(roles/{role}.md#{name})" in made["settings.md"]
    for name in docs_site.spec("meta/argument_specs.yml"):
        assert f"{{ #{name} }}" in made["settings.md"]


def test_the_repository_is_that_of_galaxy() -> None:
    assert SITE["repo_url"] == docs_site.repository() == REPOSITORY


def test_nothing_that_is_built_is_committed() -> None:
    assert ".cache/" in (ROOT / ".gitignore").read_text().split()
    assert "--site-dir" in (ROOT / "scripts/site.sh").read_text()
