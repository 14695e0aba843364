# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file by which one ufw waits for another, without end. ufw makes it for all to read, and leaves it there."""

from __future__ import annotations

from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.files.locks import close_file

LOCK = "/run/ufw.lock"


def close_to_accounts(warn: Callable[[str], object], path: str = LOCK) -> None:
    """Have a file there that root alone can open; to be called before ufw is run.

    Args:
        warn: gets who had locked it.
        path: the file.

    Raises:
        GpusteadError: it cannot be made.
    """
    for holder in close_file(path):
        warn(f"{holder}: it is another file now, and keeps nobody waiting.")
