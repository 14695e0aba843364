"""What the hosts of inventories run their roles with, as the survey computes it.

A program of its own, as Ansible finds the filters of collections only in a process that it has to itself: a list of
{groups, settings, files} in, [{host: {role: {part: digest}}}, ...] out, as JSON. What must be as the inventory has it
now stands there as part `current`.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
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


def write(folder: Path, site: Mapping[str, Any]) -> Path:
    """The inventory as files."""
    groups = {name: {"hosts": hosts} for name, hosts in site["groups"].items()}
    texts = {"hosts.yml": groups, "group_vars/all.yml": site["settings"]}
    for name, text in {**{name: yaml.safe_dump(values) for name, values in texts.items()}, **site["files"]}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "hosts.yml"


def inputs(path: Path) -> dict[str, Any]:
    """{host: {role: {part: digest}}} of an inventory."""
    host, kept = (importlib.import_module(f"{UTILS}.{name}") for name in ("receipt_host_inputs", "receipt_inputs"))
    loader = DataLoader()
    inventory = InventoryManager(loader, sources=[str(path)])
    hostvars = HostVars(inventory, VariableManager(loader=loader, inventory=inventory), loader)
    task = SimpleNamespace(get_play=lambda: SimpleNamespace(vars={}, vars_files=[]))
    action = SimpleNamespace(_templar=Templar(loader=loader), _loader=loader, _task=task)
    known = kept.Kept()
    started = time.process_time()
    groups = {group for role in host.ROLES.values() for group in role.groups}
    names = sorted(
        {one.name for group in groups & set(inventory.groups) for one in inventory.groups[group].get_hosts()}
    )
    common: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name in names:
        ours = host.HostInputs(action, {"hostvars": hostvars, "inventory_hostname": name}, known)
        common = common or host.shared_inputs(ours)["common"]
        mine = [role for role in host.ROLES if set(host.ROLES[role].groups) & set(ours.group_names)]
        found[name] = {role: {**common[role], **ours.of_role(role)} for role in mine}
        for role in mine:
            current = ours.current(role)
            found[name][role].update({"current": json.dumps(current, default=list)} if current else {})
    print(f"{(time.process_time() - started) / len(names) * 1000:.2f} ms of CPU for each host", file=sys.stderr)
    return found


def main() -> None:
    init_plugin_loader([str(ROOT / ".dev")])
    results = []
    with tempfile.TemporaryDirectory() as folder:  # one for all, as its name may be an input
        for site in json.load(sys.stdin):
            results.append(inputs(write(Path(folder), site)))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
