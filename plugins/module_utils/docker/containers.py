# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the containers of our compose projects bind, and which of them must be recreated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ContainerBind:
    """What a container binds.

    Attributes:
        name: of the mount that module binds makes for it; empty where root's own file or directory is bound.
        host, path: on the host and in the container.
        read_only: whether it only reads it.
        guest: the account that comes in with it; empty where it is not a guest's.
        propagation: how mounts that appear later below it are seen, as Docker names it.
    """

    name: str
    host: str
    path: str
    read_only: bool = False
    guest: str = ""
    propagation: str = "rprivate"


def to_recreate(
    project: str, services: Sequence[str], drifted: Iterable[str], bound: Iterable[str], replaced: Iterable[str]
) -> list[str]:
    """The services whose containers run otherwise than the role had left them.

    Args:
        project: the compose project.
        services: all of it.
        drifted: what was found to have drifted, as a receipt names it: `container <project>/<service>`.
        bound: names of the places that its containers bind.
        replaced: names of those that stand for another place than before: all containers still see the other one.
    """
    if set(bound) & set(replaced):
        return list(services)
    prefix = f"container {project}/"
    return [subject[len(prefix) :] for subject in drifted if subject.startswith(prefix)]
