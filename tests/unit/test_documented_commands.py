"""The commands in docs/: each has a place where one types it, and is run by a test or says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.scripts.docs_site import PLACES, placed
from ansible_collections.gpustead.cluster.tests.integration.pages import Block, blocks

PROJECT = Path(__file__).resolve().parents[2]
# Whose commands are marked. The first four are run in the lab.
GUIDES = ("researchers", "troubleshooting", "getting-started", "from-scripts", "one-server", "day-two", "upgrade")
MARKED = [(page, block) for page in GUIDES for block in blocks((PROJECT / f"docs/{page}.md").read_text())]
PLAYBOOKS = {path.stem for path in (PROJECT / "playbooks").glob("*.yml")}


def name(case: tuple[str, Block]) -> str:
    return f"{case[0]}:{case[1].line}"


def fenced(mark: str, language: str = "sh") -> str:
    return f"## Log in\n\n{mark}\n```{language}\nssh gpu01\ntrue\n```\n"


def test_a_block_says_where_it_is_run_and_what_is_seen() -> None:
    text = fenced("<!-- on laptop: run -->") + fenced("<!-- on node as root: run, fails, shows: no (key|name) -->")
    assert [*blocks(text)] == [
        Block("Log in", 5, "laptop", "ssh gpu01\ntrue"),
        Block("Log in", 12, "node as root", "ssh gpu01\ntrue", fails=True, shows="no (key|name)"),
    ]
    (block,) = blocks(fenced("<!-- on laptop: not run, it asks -->"))
    assert block.reason == "it asks"


@pytest.mark.parametrize(
    "mark",
    ["", "In the workspace:", "<!-- on laptop -->", "<!-- on laptop: not run -->", "<!-- on laptop: run, show: x -->"],
)
def test_a_block_without_a_place_or_a_reason_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="line 4, in 'Log in': no place before the commands"):
        list(blocks(fenced(mark)))


@pytest.mark.parametrize("language", ["", "SH", " sh"])
def test_a_fence_without_a_language_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match="does not say what language that is"):
        list(blocks(fenced("<!-- on laptop: run -->", language)))


def test_other_languages_are_no_commands() -> None:
    assert [*blocks(fenced("", "yaml"))] == []


def test_the_site_says_the_place() -> None:
    assert placed(fenced("<!-- on node: run, shows: x -->")) == (
        '## Log in\n\n```sh title="on a node"\nssh gpu01\ntrue\n```\n'
    )


@pytest.mark.parametrize("case", MARKED, ids=name)
def test_a_place_is_known_and_an_expression_can_be_read(case: tuple[str, Block]) -> None:
    assert case[1].place in PLACES
    re.compile(case[1].shows)


@pytest.mark.parametrize("case", MARKED, ids=name)
def test_playbooks_are_there_and_are_given_the_inventory(case: tuple[str, Block]) -> None:
    for line in re.findall(r"^ansible(?:-playbook)? .*", case[1].script, re.MULTILINE):
        assert " -i inventory/mycluster " in line
        assert set(re.findall(r"gpustead\.cluster\.(\w+)", line)) <= PLAYBOOKS | {"gpu_info"}


@pytest.mark.parametrize("page", ["researchers", "troubleshooting"])
def test_most_of_what_the_lab_can_run_is_run(page: str) -> None:
    told = [block for place, block in MARKED if place == page]
    assert len([block for block in told if block.reason]) <= len(told) // 5


PAGES = [path for pattern in ("*.md", "docs/*.md", "roles/*/README.md") for path in sorted(PROJECT.glob(pattern))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_run_in_the_documentation_names_its_inventory(page: Path) -> None:
    runs = re.findall(r"^ *ansible-playbook .*|`ansible-playbook [^`]*`", page.read_text(), re.MULTILINE)
    assert [run for run in runs if not re.search(r" -i (inventory/(mycluster|lab)|localhost,)", run)] == []
