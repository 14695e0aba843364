# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes a node off what lies on the share of the mesh, while it stands in the inventory still.

What is refused comes first, and the node's records last: whatever interrupts this, the next run finds what is left.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_share import write_hostfile
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all, is_mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import path_of
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import MESH, NODES
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import EntryChange, ShareEntry

_LIST = f"{MESH}/nodes.json"


@dataclass(frozen=True)
class RemovalOutcome:
    """What was done, or would be."""

    entries: Sequence[ShareEntry]
    changes: Sequence[EntryChange]


def remove(
    root: str, layout: Identity, node: str, hosts: Sequence[str], revoked: str, *, check: bool
) -> RemovalOutcome:
    """Take it off the share.

    Args:
        root: where the share is mounted.
        layout: the account, which nobody logs in as, that the layout belongs to.
        node: its name.
        hosts: the nodes that stay, in the order of the hostfile.
        revoked: all keys that are revoked, as lines of known_hosts.
        check: change nothing.

    Raises:
        GpusteadError: the share cannot be read or written.
    """
    is_mounted(root, False)
    file = ShareEntry("", "file", layout.uid, layout.gid, 0o644)
    first = [replace(file, path=f"{MESH}/revoked", content=revoked)]
    text = without(_read(root, layout), node)
    if text is not None:
        first.append(replace(file, path=_LIST, content=text))
    trusted = (layout.uid, layout.gid)
    changes = apply_all(root, first, check, trusted=trusted)
    # It stands in no list of hosts any more, whether it is drained or not.
    hostfile, change, _damaged = write_hostfile(
        root, layout, replace(file, path=f"{MESH}/hostfile", content=""), hosts, check=check
    )
    last = [replace(file, path=path, state="absent", mode=0) for path in (f"{NODES}/{node}.json", path_of(node))]
    return RemovalOutcome([*first, hostfile, *last], [*changes, change, *apply_all(root, last, check, trusted=trusted)])


def without(text: str, node: str) -> str | None:
    """The list of the nodes without one of them; None where it is none, and the next run of the role writes it."""
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError, AttributeError):
        data = json.loads(text)
        return json.dumps({**data, "nodes": {name: one for name, one in data["nodes"].items() if name != node}}) + "\n"
    return None


def _read(root: str, layout: Identity) -> str:
    try:
        return (as_account.read(root, _LIST, layout, owner=layout.uid) or b"").decode("utf-8", "replace")
    except GpusteadError:
        return ""
