# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes from a node that leaves the cluster what others trust it by: its containers, its keys, its login.

Nobody's files are touched, and Docker, drivers, accounts and the mount of the share stay. Its receipts go last: as long
as they are there, they say where it had logged in.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.receipt_store import ReceiptStore
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, Run, must

# Compose projects of ours. A label may say anything, and compose takes no other name.
_OURS = re.compile(r"gpustead-[a-z0-9][a-z0-9_-]*")
_LIST = ("docker", "ps", "--all", "--format", '{{.Label "com.docker.compose.project"}}')
_LOGINS = "/root/.docker/config.json"
# What role ssh_mesh leaves beside its directory of settings: root's, and no path of an account's.
_PLACES = ("/usr/local/bin/mesh-run", "/usr/local/lib/gpustead/mesh", "/var/lib/gpustead-mesh")


@dataclass(frozen=True)
class TrustLeft:
    """What of it there is.

    Attributes:
        projects: compose projects of ours with containers.
        logins: registries where Docker is logged in for the cluster.
        paths: files and directories, the receipts last.
    """

    projects: Sequence[str]
    logins: Sequence[str]
    paths: Sequence[str]

    def lines(self) -> list[str]:
        """Each in a line."""
        return [
            *(f"containers of {name}" for name in self.projects),
            *(f"login to {name}" for name in self.logins),
            *self.paths,
        ]


def observe_trust(run: Run, config_dir: str, state_dir: str) -> TrustLeft:
    """Look what there is.

    Args:
        run: runs docker.
        config_dir: `cluster_config_dir`.
        state_dir: `cluster_state_dir`.

    Raises:
        GpusteadError: Docker is there and does not answer: it would start the containers again.
    """
    out = must(run, _LIST, good=(0, NOT_FOUND), remedy="Start Docker, and run again.")
    projects = sorted({name for name in out.split() if _OURS.fullmatch(name)})
    paths = [f"{config_dir}/ssh_mesh", *_PLACES, f"{state_dir}/receipts"]
    return TrustLeft(projects, _logins(state_dir), [path for path in paths if os.path.lexists(path)])


def _logins(state_dir: str) -> list[str]:
    """As the receipt of role registry has them; without it, none."""
    try:
        outputs = ReceiptStore(state_dir).read("registry").outputs
    except GpusteadError:
        return []
    keys = [
        key
        for kind, subject in outputs
        if kind == "json_keys" and subject["name"] == _LOGINS
        for key in subject["keys"]
    ]
    return [key[1] for key in keys if key[0] == "auths"]


def wipe(run: Run, found: TrustLeft) -> None:
    """Take it away. Raises GpusteadError where Docker does not, and OSError."""
    for project in found.projects:
        must(run, ["docker", "compose", "--project-name", project, "down"], remedy="See docker ps, and run again.")
    for registry in found.logins:
        must(run, ["docker", "logout", registry], remedy=f"See {_LOGINS}, and run again.")
    for path in found.paths:
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
