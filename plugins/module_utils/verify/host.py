# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How verify reads a host: through the probes of the receipts, and files of root's."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Unreadable, reason
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


def host_of(run: Run, root: str = "/", docker_socket: str = "/run/docker.sock") -> Host:
    """The host as the probes see it. What they digest is compared with nothing here: any salt will do.

    Args:
        run: runs every command, with its own limits.
        root: stands before the paths of files.
        docker_socket: where Docker answers.
    """

    def limited(argv: Sequence[str], _timeout: float) -> tuple[int, str, str]:
        return run(argv)

    return Host(root, os.urandom(16), limited, docker_socket)


def read(path: str, host: Host) -> tuple[str, str]:
    """The text of a file of root's, and why there is none."""
    try:
        text = host.text(path)
    except (OSError, Unreadable) as error:
        return "", str(reason(error)["error"])
    return text or "", "" if text is not None else f"{path} is not there"


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"
