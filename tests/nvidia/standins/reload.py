#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Do to Docker's containers at a daemon-reload what systemd does where it manages their cgroups.

It applies the device rules of each unit again, and those come from the specification of the container: what a hook
allowed behind its back is gone. In the hosts of the lab Docker manages the cgroups by itself, because systemd cannot
in a container of that kind. As a generator this runs at every daemon-reload.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TASKS = Path("/run/containerd/io.containerd.runtime.v2.task/moby")
CGROUPS = Path("/sys/fs/cgroup/devices")
# What runc allows every container.
ALWAYS = (
    "c *:* m",
    "b *:* m",
    *(f"c {node} rwm" for node in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*")),
)


def rule(device: dict[str, Any]) -> str:
    numbers = [str(device[name]) if device.get(name, -1) >= 0 else "*" for name in ("major", "minor")]
    return f"{device.get('type', 'a')} {':'.join(numbers)} {device['access']}"


def main() -> None:
    for config in TASKS.glob("*/config.json"):
        linux = json.loads(config.read_text())["linux"]
        folder = CGROUPS / linux["cgroupsPath"].lstrip("/")
        if not folder.is_dir():
            continue
        (folder / "devices.deny").write_text("a\n")
        allowed = [rule(device) for device in linux["resources"].get("devices", []) if device["allow"]]
        for line in (*ALWAYS, *allowed):
            (folder / "devices.allow").write_text(f"{line}\n")


if __name__ == "__main__":
    main()
