"""docs/from-scripts.md: what stands there in place of people's scripts is typed into a converged lab, row by row."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Lab
from from_scripts import CASES, Case
from image_trial import Trial
from pages import Block, Row, blocks, rows
from support import forget_share
from typed import laptop, typed

PAGE = (PROJECT / "docs/from-scripts.md").read_text()
OURS = "/srv/ours"  # a project on the controller


@pytest.fixture(scope="module", autouse=True)
def machine(lab: Lab) -> Iterator[None]:
    with laptop(lab):
        yield
    # The first names what still runs in groups that are taken back, in the containers that it makes anew.
    lab.playbook("site.yml")
    done = lab.playbook("site.yml")
    lab.nodes[0].run("rm -rf /srv/data /srv/old; runuser -u ada -- rm -rf /mnt/nas/users/ada/mesh-runs")
    forget_share(lab.nodes[0], "hedy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Two layers in place of the whole stack, and a project beside them."""
    made = Trial(lab, tmp_path_factory.mktemp("scripts"), "scripts")
    (made.path / "ours").mkdir()
    (made.path / "ours/words").write_text("ours\n")
    yield made
    for node in lab.nodes:
        node.run(f"docker image ls -q '{made.name}/*' | sort -u | xargs -r docker image rm -f")
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def all_of(lab: Lab, commands: Sequence[tuple[str, str]]) -> None:
    for place, script in commands:
        status, said = typed(lab, place, script.replace("LAB_BASE", str(lab.nodes[0].variables["images_base"])))
        assert status == 0, f"{place}: {script}: {said}"


def command(lab: Lab, row: Row, case: Case, trial: Trial | None, folder: Path) -> str:
    """What is typed, with the settings that the inventory has for it."""
    settings = {name: value for text in row.settings for name, value in yaml.safe_load(text).items()}
    settings |= {name: [*lab.nodes[0].variables[name], *more] for name, more in case.added.items()}
    words = [*case.words]
    if trial:
        settings = {**trial.settings, **settings}
    if settings:
        text = json.dumps(settings)
        (folder / "inventory.json").write_text(text.replace(OURS, str(trial.path / "ours")) if trial else text)
        words += ["-e", f"@{folder}/inventory.json"]
    return " ".join([row.command, *map(shlex.quote, words)])


@pytest.mark.parametrize("row", list(rows(PAGE)), ids=lambda row: row.today)
def test_what_stands_in_place_of_a_script(lab: Lab, row: Row, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = CASES[row.today]
    trial = request.getfixturevalue("small") if case.small else None
    all_of(lab, case.before)
    try:
        status, said = typed(lab, row.place, command(lab, row, case, trial, tmp_path))
        assert status == 0 and re.search(case.shows, said, re.DOTALL), (
            f"line {row.line}, {row.command}: {status}\n{said}"
        )
        all_of(lab, case.after)
    finally:
        all_of(lab, case.end)


@pytest.mark.parametrize("block", [one for one in blocks(PAGE) if not one.reason], ids=lambda one: f"line {one.line}")
def test_what_moves_what_there_was(lab: Lab, block: Block) -> None:
    old = "/srv/old/ada/workspace"
    lab.nodes[0].check_output(f"mkdir -p {old} && echo old > {old}/from-scripts && chown -R ada: /srv/old/ada")
    status, said = typed(lab, block.place, block.script)
    assert status == 0 and re.search(block.shows, said, re.DOTALL), f"line {block.line}: {status}\n{said}"
    if "/srv/old" in block.script:
        # Debian's bash.bashrc has a line of its own to say, of bash -u over SSH.
        status, said = typed(lab, "workspace", "cat workspace/from-scripts && rm -r workspace")
        assert (status, said.splitlines()[0]) == (0, "old")
