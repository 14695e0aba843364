"""What the preflight says of inventories.

A program of its own, as Ansible finds the filters of collections only in a process that it has to itself: a list of
{groups, settings, files, arguments} in, [{problems, seconds}, ...] out, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).parents[3]
UTILS = "ansible_collections.gpustead.cluster.plugins.plugin_utils"


def write(folder: Path, site: Mapping[str, Any]) -> None:
    """The inventory as files."""
    groups = {name: {"hosts": hosts} for name, hosts in site["groups"].items()}
    texts = {"hosts.yml": groups, "group_vars/all.yml": site["settings"]}
    written = {name: yaml.safe_dump(values, sort_keys=False) for name, values in texts.items() if values}
    for name, text in {**written, **site.get("files", {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def problems(folder: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    files, run, settings = (
        importlib.import_module(f"{UTILS}.preflight_{name}") for name in ("files", "run", "settings")
    )
    loader = DataLoader()
    loader.set_basedir(str(folder))
    inventory = InventoryManager(loader, sources=[str(folder)])
    variables = VariableManager(loader=loader, inventory=inventory)
    hostvars = HostVars(inventory, variables, loader)
    groups = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
    found = files.unread(loader, [str(folder)], groups)
    started = time.process_time()
    if not found:
        raw = settings.InventorySettings(Templar(loader=loader), hostvars, {"ansible_check_mode": False}, str(folder))
        found = [*run.of_run(arguments, groups, arguments.get("play_hosts", groups["all"]))]
        found += run.of_inventory(raw, groups, loader, [str(folder)])
    return {"problems": [str(one) for one in found], "seconds": time.process_time() - started}


def main() -> None:
    sites = json.load(sys.stdin)
    init_plugin_loader([str(ROOT / ".dev")])
    answers = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, site in enumerate(sites):
            folder = Path(scratch) / str(number)
            write(folder, site)
            os.chdir(folder)
            answers.append(problems(folder, site.get("arguments", {})))
        os.chdir(ROOT)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
