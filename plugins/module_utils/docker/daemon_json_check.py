# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether daemon.json could take settings, asked before anything is changed: Docker's package fails on a broken one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.docker import dockerd
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import (
    DAEMON_JSON,
    check_flags,
    plan,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


def check(run: Run, settings: Mapping[str, Any], absent: Sequence[str], program: str | None, work: str) -> None:
    """Refuse a file that cannot be merged with the settings, or with which dockerd would not start.

    Args:
        run: runs commands.
        settings, absent: what must be in the file, and keys that must not.
        program: dockerd, where it is installed; it judges what would be written.
        work: a directory of the caller's own for that.

    Raises:
        GpusteadError: what is the matter with it.
    """
    todo = plan(dockerd.read(DAEMON_JSON), settings, absent, DAEMON_JSON)
    check_flags(list(settings), dockerd.observe_flags(run, dockerd.read), DAEMON_JSON)
    if todo.changed and program:
        with tempfile.NamedTemporaryFile(dir=work, suffix=".json") as candidate:
            candidate.write(todo.after.encode())
            candidate.flush()
            dockerd.validate(run, program, candidate.name, DAEMON_JSON)
