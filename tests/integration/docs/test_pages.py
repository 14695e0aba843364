"""docs/researchers.md and docs/troubleshooting.md, typed word by word into a converged lab.

The pages speak of account ada and nodes gpu01 and gpu02, which is what the lab has. Where a part of the second page is
about a fault, the fault is made first; what stands there has to show it, and to mend it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import PROJECT, Lab
from pages import Block, blocks
from typed import WORKSPACE, laptop, on, typed

RESEARCHERS, TROUBLESHOOTING = (
    [*blocks((PROJECT / f"docs/{page}.md").read_text())] for page in ("researchers", "troubleshooting")
)
SECTIONS = list(dict.fromkeys(block.section for block in TROUBLESHOOTING))
KEYS = "/etc/gpustead/workspace/ssh/authorized_keys.d"
PROJECT_OF_ADA = "docker compose -p gpustead-workspace"
# Section to the node on which something is broken, how, and how it is mended where the page does not.
FAULTS = {
    "Permission denied (publickey)": ("gpu01", f"rm {KEYS}/ada", "true"),
    "A container does not start": ("gpu01", f"{PROJECT_OF_ADA} stop jupyter", f"{PROJECT_OF_ADA} start jupyter"),
    "SSH over the mesh fails": ("gpu02", "docker stop gpustead-mesh", "docker start gpustead-mesh"),
    "A port is closed": ("gpu01", f"{PROJECT_OF_ADA} stop tensorboard", f"{PROJECT_OF_ADA} start tensorboard"),
}
# What the pages have people make.
MADE_IN_HOME = "hello.txt hello.py hello.log mesh-runs runs/first venvs/mine .local/share/jupyter/kernels/mine"


def follow(lab: Lab, block: Block) -> None:
    status, said = typed(lab, block.place, block.script)
    assert (status != 0) is block.fails, f"line {block.line}, {block.script}: {status}\n{said}"
    assert re.search(block.shows, said, re.DOTALL), f"line {block.line}, {block.script}: no {block.shows!r} in\n{said}"


@pytest.fixture(scope="module", autouse=True)
def machine(lab: Lab) -> Iterator[None]:
    with laptop(lab) as client:
        yield
        on(client, f"ssh -o BatchMode=yes {WORKSPACE} 'rm -rf {MADE_IN_HOME}'; ssh -o BatchMode=yes gpu01 rm -f mesh")
        client.run("rm -f hello.txt")


@pytest.mark.parametrize("block", [one for one in RESEARCHERS if not one.reason], ids=lambda one: f"line {one.line}")
def test_what_researchers_are_told(lab: Lab, block: Block) -> None:
    follow(lab, block)


@pytest.mark.parametrize("section", SECTIONS)
def test_what_shows_and_mends_a_fault(lab: Lab, section: str) -> None:
    host, break_it, mend_it = FAULTS.get(section, ("gpu01", "true", "true"))
    lab[host].check_output(break_it)
    try:
        for block in TROUBLESHOOTING:
            if block.section == section and not block.reason:
                follow(lab, block)
    finally:
        lab[host].run(mend_it)


def test_every_fault_is_one_of_the_page() -> None:
    assert set(FAULTS) <= set(SECTIONS)
