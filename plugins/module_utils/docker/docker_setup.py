# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would be in the way of Docker on a host."""

from __future__ import annotations

from collections.abc import Collection

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.other_dockers import SNAP
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# The package of the engine, by where Docker comes from.
ENGINES = {"docker": "docker-ce", "distribution": "docker.io"}
_TOO_OLD = "bookworm"


def check(source: str, release: str, packages: Collection[str], snap: bool) -> None:
    """Refuse a host on which the Docker of this source would not do, or another one is in the way.

    Args:
        source: of ENGINES.
        release: codename of the distribution's release.
        packages: installed ones, engines among them.
        snap: whether the Docker from Snap is there.

    Raises:
        GpusteadError: the first that is in the way.
    """
    if source == "distribution" and release == _TOO_OLD:
        raise GpusteadError(
            "docker_source is 'distribution', and Debian 12 has Docker 20.10",
            "one with compose v2 and buildx",
            "Set docker_source: docker for this host, or upgrade it to Debian 13.",
        )
    other = next(name for name in ENGINES if name != source)
    rival = ENGINES[other]
    if rival in packages:
        raise GpusteadError(
            f"{rival} is installed, and docker_source is {source!r}",
            "the engine of that source: to replace the one that is there would stop all containers",
            f"Set docker_source: {other}, or remove {rival} first (images and volumes in /var/lib/docker stay).",
        )
    if snap:
        raise GpusteadError(
            f"{SNAP} belongs to a Docker from Snap",
            "none: it cannot reach GPUs",
            "Remove it first: snap remove docker.",
        )
