# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role base goes by on a host: its release, apt's lists, and the packages that are there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.answers import RELEASES

_LISTS = "/var/lib/apt/lists"
# As apt and Ansible have it: a host without the stamp tells by the directory.
_STAMPS = ("/var/lib/apt/periodic/update-success-stamp", _LISTS)
_BY_APT = re.compile(r"^Package: (\S+)\n(?:.+\n)*?Auto-Installed: 1$", re.MULTILINE)


@dataclass(frozen=True)
class Observed:
    """What is there.

    Attributes:
        release: ID and VERSION_ID, such as `debian 12`.
        lists_age: seconds since apt's package lists were fetched; None where there are none.
        missing: the packages that apt has to look at: not installed as a package that somebody asked for.
    """

    release: str
    lists_age: float | None
    missing: list[str]


def look(packages: Sequence[str], host: Host) -> Observed:
    """Look at a host.

    Args:
        packages: names as apt takes them.

    Raises:
        GpusteadError: its release is not known.
    """
    return Observed(_release(host), _lists_age(host), _missing(packages, host))


def _release(host: Host) -> str:
    lines = (host.text("/etc/os-release") or "").splitlines()
    said = {name: value.strip("\"'") for name, _equals, value in (line.partition("=") for line in lines)}
    release = f"{said.get('ID', '')} {said.get('VERSION_ID', '')}".strip()
    known = [f"{system} {version}" for system, versions in RELEASES.items() for version in versions]
    if release not in known:
        remedy = "Install one of these on it, or take it out of the inventory."
        raise GpusteadError(f"the host runs {release or 'nothing known'}", f"one of {', '.join(known)}", remedy)
    return release


def _lists_age(host: Host) -> float | None:
    """Images come with emptied lists, whose directory is young all the same."""
    try:
        if not any("_Packages" in name for name in os.listdir(host.path(_LISTS))):
            return None
    except FileNotFoundError:
        return None
    stamp = next(path for path in _STAMPS if os.path.exists(host.path(path)))
    return host.now - os.stat(host.path(stamp)).st_mtime


def _missing(packages: Sequence[str], host: Host) -> list[str]:
    """With those that have a version or a pattern, and those that apt has for others and might remove with them."""
    seen = observe([("package", {"name": name}) for name in packages], host)
    by_apt = set(_BY_APT.findall(host.text("/var/lib/apt/extended_states") or ""))
    is_there = {name: (seen[f"package {name}"] or {}).get("installed") for name in packages}
    return [name for name in packages if not is_there[name] or name.partition(":")[0] in by_apt]
