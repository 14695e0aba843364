# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which images a node has, and how much space there is for others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


@dataclass(frozen=True)
class NodeImages:
    """What was found.

    Attributes:
        missing: those of the images that are not there.
        free_gb: space where Docker keeps images, in GiB, rounded up; None where there is no such directory yet.
        pulled: the lines of the file.
    """

    missing: tuple[str, ...]
    free_gb: int | None
    pulled: tuple[str, ...]


def observe(images: Iterable[str], directory: str, pulled_file: str, run: Run) -> NodeImages:
    """Look at a node.

    Args:
        images: names, of which is asked.
        directory: where Docker keeps images.
        pulled_file: with a name on each line; it need not be there.
        run: runs `docker`. Where there is none, or no daemon, all images are missing.

    Raises:
        GpusteadError: the file cannot be read, or the directory not be looked at.
    """
    missing = [name for name in images if run(["docker", "image", "inspect", "--format={{.Id}}", name])[0]]
    try:
        return NodeImages(tuple(missing), _free(directory), _lines(pulled_file))
    except OSError as error:
        raise of_system(error, f"{directory} and {pulled_file}") from error


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
