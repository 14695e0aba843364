# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is declared for a host, and what verify found there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import DEFAULTS, SERVICE_ACCOUNT

SERVICE = Identity(SERVICE_ACCOUNT["uid"], SERVICE_ACCOUNT["gid"])


@dataclass(frozen=True)
class DeclaredAccount:
    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True)
class Project:
    """A compose project.

    Attributes:
        services: its services, with the port that each publishes on the host, or 0.
        owner: account that its containers are used by.
        image: where it is not the node's.
        gpus: positions or UUIDs of those of the node that it has; None: all.
    """

    name: str
    services: Mapping[str, int]
    owner: str
    image: str = ""
    gpus: Sequence[Any] | None = None


@dataclass(frozen=True)
class Desired:
    """What is declared for a host. `node`: it is a GPU node; else only its ports and its firewall are looked at.

    `networks` are those from which the ports in `listening` are called (none: any that is not the host itself);
    `firewall_policy` is what the probe `openings` is given.
    """

    host: str
    node: bool = False
    owner: str = ""
    accounts: tuple[DeclaredAccount, ...] = ()
    service: Identity = SERVICE  # whose the layout of the share is
    nas_path: str = DEFAULTS["cluster_nas_path"]
    nas_source: str = DEFAULTS["nas_source"]
    nas_fstype: str = DEFAULTS["nas_fstype"]
    nodes: tuple[str, ...] = ()
    image_file: str = f"{DEFAULTS['cluster_config_dir']}/image"
    variant: str = ""  # of the images, which it runs in the place of that of most nodes
    projects: tuple[Project, ...] = ()
    listening: Mapping[str, int] = field(default_factory=dict)  # what listens on a port of the host itself
    networks: Sequence[str] = ()
    firewall: bool = True
    firewall_policy: Mapping[str, Any] = field(default_factory=dict)
    gpus_file: str = f"{DEFAULTS['cluster_config_dir']}/gpus.json"
    gpus_required: bool = True  # every GPU on the PCI bus must be usable
    gpu_info: Mapping[str, Any] = field(default_factory=dict)  # the GPUs now; without `state`, they were not asked

    @property
    def again(self) -> str:
        return f"Run site.yml --limit {self.host}."


@dataclass(frozen=True)
class Finding:
    """What is wrong: the thing, its value and what was declared, what to do."""

    subject: str
    what: str
    remedy: str


@dataclass
class Findings:
    """What was seen, for the comparison with other hosts, what is wrong, and what is to be known."""

    seen: dict[str, Any] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)

    def add(self, subject: str, what: str, remedy: str) -> None:
        self.problems.append(Finding(subject, what, remedy))
