# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records of nodes that take no new runs: <nas>/.cluster/mesh/drained/<node>.json.

Beside the records that nodes write of themselves, which know nothing of it: a node that is down can be drained, and one
that writes its own anew stays so. mesh-run reads them in the mesh's containers (roles/ssh_mesh/files/mesh_run/states).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import DRAINED
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

SCHEMA = 1
SIZE = 1 << 14
MOST = 5000  # names of the directory that are looked at
_SUFFIX = ".json"
DAMAGED = "its record cannot be read"


@dataclass(frozen=True)
class Drained:
    """Why a node takes no new runs.

    Attributes:
        node: its name in the inventory.
        since: when it was drained first, in UTC, such as 2026-11-30T20:15:00Z.
        by: who did it, and from where.
        reason: in their words.
        until: when what ran there was to have ended, in UTC; empty where nothing was said.
    """

    node: str
    since: str = ""
    by: str = ""
    reason: str = ""
    until: str = ""

    def __str__(self) -> str:
        return f"{self.node} is drained since {self.since} by {self.by}: {self.reason}"

    def text(self) -> str:
        """What its file holds."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=4) + "\n"


def path_of(node: str) -> str:
    """Where the record of a node lies, below the root of the share."""
    return f"{DRAINED}/{node}{_SUFFIX}"


def parse(text: str, node: str) -> Drained:
    """A record. One that is damaged is one as well: whoever drained the node is at work there."""
    try:
        data = json.loads(text)
        values = {key: data[key] for key in ("since", "by", "reason", "until")}
        if data["node"] == node and data["schema"] == SCHEMA and all(isinstance(one, str) for one in values.values()):
            return Drained(node, **{key: shown(value) for key, value in values.items()})
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return Drained(node, reason=DAMAGED)


def read_drained(root: str, who: Identity, timeout: float = 30) -> dict[str, Drained]:
    """Those that there are, by node.

    Args:
        root: where the share is mounted; a path that only root can change.
        who: as whom it is read, and whose they must be.
        timeout: seconds.

    Raises:
        GpusteadError: the share does not say.
    """

    def work() -> Mapping[str, str]:
        try:
            directory = as_account.open_beneath(root, DRAINED, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return {}
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX) and name[0] != ".")
            return {name[: -len(_SUFFIX)]: _text(directory, name, who) for name in names[:MOST]}
        finally:
            os.close(directory)

    place = os.path.join(root, DRAINED)
    try:
        found = as_account.run(work, who, timeout=timeout, size=MOST * SIZE, place=place)
    except PermissionError as error:
        what = f"{place} cannot be read by uid {who.uid} ({error.strerror})"
        raise GpusteadError(what, "it to be", "Give it to that account, with mode 0755.") from error
    return {node: parse(text, node) for node, text in found.items()}


def _text(directory: int, name: str, who: Identity) -> str:
    try:
        file = as_account.open_beneath(directory, name)
        try:
            as_account.regular(file, name, who.uid)
            return as_account.contents(file, name, SIZE).decode("utf-8", "replace")
        finally:
            os.close(file)
    except (GpusteadError, OSError):
        return ""
