"""docs/researchers.md and docs/troubleshooting.md, typed word by word into a converged lab.

The pages speak of account ada and nodes gpu01 and gpu02, which is what the lab has. Where a part of the second page is
about a fault, the fault is made first; what stands there has to show it, and to mend it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from conftest import PROJECT, Host, Lab
from pages import Block, blocks

RESEARCHERS, TROUBLESHOOTING = (
    [*blocks((PROJECT / f"docs/{page}.md").read_text())] for page in ("researchers", "troubleshooting")
)
SECTIONS = list(dict.fromkeys(block.section for block in TROUBLESHOOTING))
KEYS = "/etc/gpustead/workspace/ssh/authorized_keys.d"
WORKSPACE = "docker compose -p gpustead-workspace"
# Section to the node on which something is broken, how, and how it is mended where the page does not.
FAULTS = {
    "Permission denied (publickey)": ("gpu01", f"rm {KEYS}/ada", "true"),
    "A container does not start": ("gpu01", f"{WORKSPACE} stop jupyter", f"{WORKSPACE} start jupyter"),
    "SSH over the mesh fails": ("gpu02", "docker stop gpustead-mesh", "docker start gpustead-mesh"),
    "A port is closed": ("gpu01", f"{WORKSPACE} stop tensorboard", f"{WORKSPACE} start tensorboard"),
}
# What the pages have people make.
MADE_IN_HOME = "hello.txt hello.py hello.log runs/first venvs/mine .local/share/jupyter/kernels/mine"


def bash(script: str) -> str:
    return f"bash -euo pipefail -c {shlex.quote(script)}"


def on(host: Host, script: str) -> tuple[int, str]:
    done = host.run(f"{bash(script)} </dev/null")
    return done.rc, done.stdout + done.stderr


def on_controller(lab: Lab, script: str) -> tuple[int, str]:
    # Its directory has the lab's ansible.cfg. The inventory is another one, by its place alone.
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("inventory/mycluster", str(lab.inventory))],
        cwd=PROJECT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def typed(lab: Lab, block: Block) -> tuple[int, str]:
    """Exit status and output of a block's commands at the place where its page says."""
    if block.place == "controller":
        return on_controller(lab, block.script)
    if block.place == "laptop":
        return on(lab["client"], block.script)
    if block.place in ("workspace", "node"):
        name = "gpu01" if block.place == "node" else "gpu01-workspace"
        return on(lab["client"], f"ssh -o BatchMode=yes {name} {shlex.quote(bash(block.script))}")
    match = re.fullmatch(r"node(?: (\w+))? as root", block.place)
    assert match, f"line {block.line}: no such place as {block.place!r}"
    return on(lab[match[1] or "gpu01"], block.script)


def follow(lab: Lab, block: Block) -> None:
    status, said = typed(lab, block)
    assert (status != 0) is block.fails, f"line {block.line}, {block.script}: {status}\n{said}"
    assert re.search(block.shows, said, re.DOTALL), f"line {block.line}, {block.script}: no {block.shows!r} in\n{said}"


@pytest.fixture(scope="module", autouse=True)
def laptop(lab: Lab) -> Iterator[None]:
    """The lab's client is somebody's machine: it has the owner's key, client.yml's file, and names that resolve."""
    assert lab.owner == "ada"
    client, key = lab["client"], (lab.inventory / ".ssh/id_ed25519").read_text()
    names = "\n".join(f"{node.address} {node.name} # gpustead test" for node in lab.nodes)
    client.check_output(f"cat >> /etc/hosts <<'END'\n{names}\nEND")
    client.check_output(f"mkdir -p -m 0700 ~/.ssh; umask 077; cat > ~/.ssh/id_cluster <<'END'\n{key}END")
    for arguments in (
        ["site.yml"],
        ["playbooks/client.yml", "-e", "client_hosts=client", "-e", "client_identity_file=~/.ssh/id_cluster"],
    ):
        done = lab.playbook(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    yield
    on(client, f"ssh -o BatchMode=yes gpu01-workspace 'rm -rf {MADE_IN_HOME}'; ssh -o BatchMode=yes gpu01 rm -f mesh")
    # Written and not replaced: in a container the file is mounted.
    client.run(
        "mine=$(grep -v ' # gpustead test$' /etc/hosts); echo \"$mine\" > /etc/hosts; rm -f hello.txt ~/.ssh/id_cluster"
    )


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
