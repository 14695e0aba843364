# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Containers for which Docker does not answer, and the compose projects that must be left alone for that.

Docker opens /etc/passwd and /etc/group of a container plainly, and holds the container meanwhile. Whoever is root in it
can put a FIFO there, and each command for the container then waits for ever; those for others do not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import docker
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Host, Unreadable

REMEDY = (
    "A FIFO that an account put in the place of a container's /etc/passwd or /etc/group does that: the README of role "
    "workspace says how it is ended. Then run site.yml."
)
_AT_ONCE = 16  # containers that are asked at the same time: each has its own limit


def inspect_all(containers: Collection[str], host: Host) -> Mapping[str, dict[str, Any] | str | None]:
    """What Docker says of each, by id: None of one that went away, and of one for which it does not answer why."""

    def ask(container: str) -> dict[str, Any] | str | None:
        try:
            return docker.inspect(container, host)
        except Unreadable as error:
            return str(error)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(containers, pool.map(ask, containers)))


def silent(projects: Collection[str], host: Host) -> list[Refusal]:
    """Those of the compose projects that have a container for which Docker does not answer; `name` is the project.

    Compose has no limit of its own, so it must be asked neither about them nor about their containers.

    Raises:
        GpusteadError: Docker runs and does not even list its containers.
    """
    if not projects or not docker.runs(host):
        return []
    try:
        services = docker.compose_services(host)
    except Unreadable as error:
        remedy = f"See journalctl -u docker there. A Docker that starts waits for a container, too. {REMEDY}"
        raise GpusteadError(f"the containers of this host ({error})", "that Docker lists them", remedy) from None
    of = {
        container: service
        for service, containers in services.items()
        for container in containers
        if service.partition("/")[0] in projects
    }
    refused: dict[str, Refusal] = {}
    for container, said in inspect_all(sorted(of), host).items():
        if isinstance(said, str):
            project = of[container].partition("/")[0]
            what = f"container {container[:12]} of {of[container]} ({said})"
            refused.setdefault(project, Refusal(project, what, "that Docker answers for it", REMEDY))
    return list(refused.values())
