# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether daemon.json could take settings, asked before anything is changed: Docker's package fails on a broken one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.docker import dockerd, unfit_settings
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import (
    DAEMON_JSON,
    Plan,
    check_flags,
    check_host,
    plan,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

_DATA_ROOT = "/var/lib/docker"
# What newer ones take from both, where it is somebody else's (moby, daemon/config/config.go: skipDuplicates).
_MERGED = ("runtimes",)


def check(
    run: Run, settings: Mapping[str, Any], absent: Sequence[str], program: str | None, work: str
) -> list[unfit_settings.Unfit]:
    """Refuse a file that cannot be merged with the settings, or with which dockerd or a cluster would not run.

    Args:
        run: runs commands.
        settings, absent: what must be in the file, and keys that must not.
        program: dockerd, where it is installed; it judges what would be written.
        work: a directory of the caller's own for that.

    Returns:
        What would be in the file, and with which a part of a cluster does not work.

    Raises:
        GpusteadError: what is the matter with it.
    """
    todo = plan(dockerd.read(DAEMON_JSON), settings, absent, DAEMON_JSON)
    check_on_host(run, todo, settings, DAEMON_JSON)
    if todo.changed and program:
        with tempfile.NamedTemporaryFile(dir=work, suffix=".json") as candidate:
            candidate.write(todo.after.encode())
            candidate.flush()
            dockerd.validate(run, program, candidate.name, DAEMON_JSON)
    return unfit_settings.warnings(todo.wanted)


def check_on_host(
    run: Run, todo: Plan, settings: Mapping[str, Any], path: str
) -> tuple[tuple[dockerd.Flag, ...], dict[str, Any]]:
    """Refuse what does not go together with the host: its unit of Docker, its swarm, its kernel.

    Returns:
        The options that the unit gives to dockerd, and what the daemon says of itself if it is the daemon's own file.

    Raises:
        GpusteadError: what does not.
    """
    given = dockerd.observe_flags(run, dockerd.read)
    check_flags([*settings, *(key for key in todo.wanted if key not in _MERGED)], given, path)
    if path != DAEMON_JSON:
        return given, {}
    info = dockerd.observe_info(run)
    swarm = dockerd.observe_swarm(info, str(todo.wanted.get("data-root") or _DATA_ROOT))
    check_host(todo.wanted, given, swarm, dockerd.observe_forwarding(), path)
    return given, info
