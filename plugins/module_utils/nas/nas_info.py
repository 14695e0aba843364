# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What systemd there is on a host, and whether it knows Docker's unit as it is now."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

_UNIT = ("systemctl", "show", "--property", "NeedDaemonReload", "--value", "docker.service")


@dataclass(frozen=True)
class Observed:
    """What is there.

    Attributes:
        systemd: the version of systemd.
        needs_reload: whether systemd has not read the unit of Docker as it is now.
    """

    systemd: int
    needs_reload: bool


def look(run: Run) -> Observed:
    """Look at a host; raises GpusteadError where a program does not answer."""
    version = re.match(r"systemd (\d+)", must(run, ("systemctl", "--version")))
    if not version:
        raise GpusteadError("systemctl --version says no version", "one", "See what systemctl is there.")
    return Observed(int(version[1]), must(run, _UNIT).strip() == "yes")
