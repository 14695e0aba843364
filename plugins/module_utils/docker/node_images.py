# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which images a node has, and how much space there is for others."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
_ROOT, _CONTAINERDS_ROOT = "/var/lib/docker", "/var/lib/containerd"


@dataclass(frozen=True)
class NodeImages:
    """What was found.

    Attributes:
        missing: those of the images that are not there.
        directory: where Docker keeps images.
        free_gb: space there, in GiB, rounded up; None where there is no such directory yet.
        pulled: the lines of the file.
    """

    missing: tuple[str, ...]
    directory: str
    free_gb: int | None
    pulled: tuple[str, ...]


def observe(
    images: Iterable[str], directory: str | None, pulled_file: str, run: Run, config: str = CONTAINERD_CONFIG
) -> NodeImages:
    """Look at a node.

    Args:
        images: names, of which is asked.
        directory: where Docker keeps images; None: where it says itself.
        pulled_file: with a name on each line; it need not be there.
        run: runs `docker`. Where there is none, or no daemon, all images are missing.
        config: of containerd.

    Raises:
        GpusteadError: the file cannot be read, or the directory not be looked at.
    """
    missing = [name for name in images if run(["docker", "image", "inspect", "--format={{.Id}}", name])[0]]
    try:
        place = directory or kept_in(_info(run), "\n".join(_lines(config)))
        return NodeImages(tuple(missing), place, _free(place), _lines(pulled_file))
    except OSError as error:
        raise of_system(error, f"{directory or 'where Docker keeps images'} and {pulled_file}") from error


def kept_in(info: Mapping[str, Any], config: str) -> str:
    """Where Docker keeps images.

    In containerd's store (of new installations from Docker 29 on) these lie in containerd's directory, wherever
    Docker's own data is (https://docs.docker.com/engine/daemon/#daemon-data-directory).

    Args:
        info: of `docker info`; empty where no daemon answers.
        config: text of containerd's configuration.
    """
    root = str(info.get("DockerRootDir") or _ROOT)
    if "io.containerd.snapshotter" not in json.dumps(info.get("DriverStatus")):
        return root
    address = str((info.get("Containerd") or {}).get("Address") or "")
    if address.startswith(("/run/docker/", "/var/run/docker/")):  # one that Docker starts for itself
        return f"{root}/containerd/daemon"
    top = re.split(r"^\s*\[", config, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(r"""^\s*root\s*=\s*["']([^"']+)["']""", top, re.MULTILINE)
    return found[1] if found else _CONTAINERDS_ROOT


def _info(run: Run) -> dict[str, Any]:
    code, out, _err = run(["docker", "info", "--format", "{{json .}}"])
    try:
        found = json.loads(out) if code == 0 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _free(directory: str) -> int | None:
    try:
        found = os.statvfs(directory)
    except FileNotFoundError:
        return None
    return -(-found.f_bavail * found.f_frsize // (1 << 30))


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return tuple(filter(None, file.read().splitlines()))
    except FileNotFoundError:
        return ()
