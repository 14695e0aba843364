# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Containers that are in the way of Compose, and the compose projects that must be left alone for that.

Docker opens /etc/passwd and /etc/group of a container plainly, and holds the container meanwhile. Whoever is root in it
can put a FIFO there, and each command for the container then waits for ever; those for others do not.

Compose takes for its own what has its labels, and removes one where a service has two. An image can bring them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import docker
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Host, Unreadable
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

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


def passes(names: Collection[str]) -> str:
    """What is wrong with containers of these names."""
    return f"container {', '.join(sorted(names))} passes for one of it: its image has the labels"


def other_labels(names: Collection[str]) -> str:
    """What to do about them."""
    return (
        f"Compose would remove one or the other. Run docker rm --force {' '.join(sorted(names))}, and start it with "
        "--label com.docker.compose.project= where it is needed. Then run site.yml."
    )


def in_the_way(projects: Collection[str], host: Host) -> list[Refusal]:
    """Those of the compose projects with a container for which Docker does not answer, or that only passes for one of
    theirs; `name` is the project.

    Compose has no limit of its own, so it must be asked neither about them nor about their containers.

    Raises:
        GpusteadError: Docker runs and does not even list its containers.
    """
    if not projects or not docker.runs(host):
        return []
    try:
        services, pretenders = docker.compose_containers(host)
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
            what = f"container {container[:12]} of {shown(of[container])} ({said})"
            refused.setdefault(project, Refusal(project, what, "that Docker answers for it", REMEDY))
    for service, names in sorted(pretenders.items()):
        project = service.partition("/")[0]
        if project in projects:
            what = f"service {shown(service)}: {passes(names)}"
            refused.setdefault(project, Refusal(project, what, "that only Compose gives these", other_labels(names)))
    return list(refused.values())
