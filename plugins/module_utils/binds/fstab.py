# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Disks of the host that are to be mounted before a place on them is looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import REMOTE, unescape
from ansible_collections.gpustead.cluster.plugins.module_utils.run import run


def awaited(binds: Iterable[Bind], network: bool = True, table: str = "/etc/fstab") -> set[str]:
    """Mountpoints of fstab on the way to places of the host on which nothing is mounted yet.

    `network`: also of those that wait for a network.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        return set()
    found = {}
    for fields in lines:
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        options = fields[3].split(",") if len(fields) > 3 else []
        if "noauto" not in options:
            found[unescape(fields[1]).rstrip("/")] = fields[2].startswith(REMOTE) or "_netdev" in options
    seen = mounts.mounted()
    wanted = {path for path, remote in found.items() if path.startswith("/") and path not in seen and network >= remote}
    ways = [f"{bind.source}/" for bind in binds if bind.root == "/"]
    return {path for path in wanted if any(way.startswith(f"{path}/") for way in ways)}


def wait(binds: Sequence[Bind], network: bool, seconds: float = 100) -> None:
    """Wait until the disks of these places are mounted, or cannot be: with `nofail` a boot goes on without."""
    end = time.monotonic() + seconds
    for path in sorted(awaited(binds, network)):
        run(["systemctl", "start", "--", path], max(1.0, end - time.monotonic()))
