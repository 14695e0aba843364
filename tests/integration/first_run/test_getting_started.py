"""docs/getting-started.md, typed word by word into an empty directory, against a lab of fresh hosts.

`make test-first` makes the hosts and takes them away. Of the page's own files the inventory alone is another one: the
lab's. It takes as long as a first run does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT, Lab
from pages import Block, blocks

PAGE = (PROJECT / "docs/getting-started.md").read_text()
INVENTORY = "inventory/mycluster"
# Each file that one writes, with the line at which the page says so.
FILES = {
    match[1]: (PAGE[: match.start()].count("\n"), match[2])
    for match in re.finditer(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL)
}
# What the lab has in its inventory, but for the passphrase that the page makes.
LABS_OWN = ("hosts.yml", ".ssh", ".images", "group_vars")


@pytest.fixture(scope="module")
def directory(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory but for the collection's archive; nothing of the checkout or of the environment is used."""
    for host in lab.nodes:
        assert host.run("test -e /var/lib/gpustead/receipts").rc != 0, f"{host.name} is not fresh"
    folder = tmp_path_factory.mktemp("mycluster")
    (folder / "home").mkdir()
    command = ["ansible-galaxy", "collection", "build", str(PROJECT), "--output-path", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def write(lab: Lab, folder: Path, line: int) -> None:
    """What one has written by that line of the page."""
    for name, (at, text) in FILES.items():
        if at < line and not (folder / name).exists():
            if name.startswith(INVENTORY):
                put_inventory(lab, folder / INVENTORY)
            else:
                (folder / name).write_text(text)


def put_inventory(lab: Lab, mine: Path) -> None:
    for name in LABS_OWN:
        source = lab.inventory / name
        if source.is_dir():
            shutil.copytree(source, mine / name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, mine / name)
    settings = mine / "group_vars/all/cluster.yml"
    settings.write_text(re.sub(r"(?m)^cluster_ca_passphrase:.*\n", "", settings.read_text()))


def typed(folder: Path, script: str) -> tuple[int, str]:
    own = {name: value for name, value in os.environ.items() if not re.match("ANSIBLE_|VIRTUAL_ENV|PYTHON", name)}
    own["PATH"] = ":".join(part for part in own["PATH"].split(":") if ".venv" not in part)
    configuration = Path.home() / ".config/pip/pip.conf"
    if configuration.exists():
        own.setdefault("PIP_CONFIG_FILE", str(configuration))
    # Each block in a shell of its own, as one that was opened anew.
    again = "if [ -d .venv ]; then source .venv/bin/activate; fi\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", again + script],
        cwd=folder, env={**own, "HOME": str(folder / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("block", [one for one in blocks(PAGE) if not one.reason], ids=lambda one: f"line {one.line}")
def test_step(lab: Lab, directory: Path, block: Block) -> None:
    write(lab, directory, block.line)
    status, said = typed(directory, block.script)
    assert status == 0, f"line {block.line}, {block.script}:\n{said}"
    assert re.search(block.shows, said, re.DOTALL), f"line {block.line}, {block.script}: no {block.shows!r} in\n{said}"
