# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would be in the way of Docker on a host."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.other_dockers import SNAP
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# The package of the engine, by where Docker comes from.
ENGINES = {"docker": "docker-ce", "distribution": "docker.io"}
_TOO_OLD = "bookworm"
_STOPS = "apt would take it away for its own, and what runs on it (Kubernetes, nerdctl, Podman) would stop"
_SAME_FILE = "dpkg would stop half-way, at a file that both packages have"
_PODMAN = "its docker is Podman's"
# What the engine of a source does not stand beside, whether the packages say so or not
# (https://docs.docker.com/engine/install/ubuntu/#uninstall-old-versions, docker/docker-ce-packaging#1339).
_IN_THE_WAY = {
    "docker": {
        "containerd": _STOPS,
        "runc": _STOPS,
        "docker-compose": _SAME_FILE,
        "docker-compose-v2": _SAME_FILE,
        "docker-buildx": _SAME_FILE,
        "podman-docker": _PODMAN,
    },
    "distribution": {
        "containerd.io": _STOPS,
        "docker-compose-plugin": _SAME_FILE,
        "docker-buildx-plugin": _SAME_FILE,
        "podman-docker": _PODMAN,
    },
}


def asked(source: str) -> set[str]:
    """The packages that `check` has to know of."""
    return {*ENGINES.values(), *_IN_THE_WAY[source]}


def check(source: str, release: str, packages: Mapping[str, str], snap: bool) -> None:
    """Refuse a host on which the Docker of this source would not do, or another one is in the way.

    Args:
        source: of ENGINES.
        release: codename of the distribution's release.
        packages: the versions of installed ones, of those that are `asked` for among them.
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
    for name, why in _IN_THE_WAY[source].items():
        # Before its second version compose was a program of its own.
        if name in packages and not (name == "docker-compose" and packages[name].startswith("1.")):
            raise GpusteadError(
                f"{name} is installed, and docker_source is {source!r}",
                f"it not to be there: {why}",
                f"Remove it first (apt-get remove {name})"
                + (f", or set docker_source: {other}, whose Docker goes on with it." if why == _STOPS else "."),
            )
    if snap:
        raise GpusteadError(
            f"{SNAP} belongs to a Docker from Snap",
            "none: it cannot reach GPUs",
            "Remove it first: snap remove docker.",
        )
