# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes a node out of new runs, and back: its record on the share decides, and the hostfile follows.

Whatever interrupts this, mesh-run and the next run find the node drained or not, and never something between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_share import write_hostfile
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all, is_mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import Drained, path_of, read_drained
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import DRAINED, MESH
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import EntryChange, ShareEntry


@dataclass(frozen=True)
class DrainOutcome:
    """What was done, or would be.

    Attributes:
        record: of the node, where it is drained now.
        before: of the node, where it was drained before.
        entries, changes: all that was looked at.
    """

    record: Drained | None
    before: Drained | None
    entries: Sequence[ShareEntry]
    changes: Sequence[EntryChange]


def drain(root: str, layout: Identity, wanted: Drained, hosts: Sequence[str], *, check: bool) -> DrainOutcome:
    """Have a node take no new runs. One that is drained stays so since when it was.

    Args:
        root: where the share is mounted.
        layout: the account, which nobody logs in as, that the layout belongs to.
        wanted: the record.
        hosts: the nodes of the mesh, in the order of the hostfile.
        check: change nothing.

    Raises:
        GpusteadError: the share cannot be read or written.
    """
    is_mounted(root, False)
    before = read_drained(root, layout).get(wanted.node)
    if before and before.since:
        wanted = replace(wanted, since=before.since)
    entries = [
        _entry(layout, DRAINED, "directory", 0o755),
        replace(_entry(layout, path_of(wanted.node), "file", 0o644), content=wanted.text()),
    ]
    changes = apply_all(root, entries, check, trusted=(layout.uid, layout.gid))
    if check and not before:
        # Its record is not there yet.
        hosts = [host for host in hosts if host != wanted.node]
    hostfile = write_hostfile(root, layout, _hostfile(layout), hosts, check=check)
    return DrainOutcome(wanted, before, [*entries, hostfile[0]], [*changes, hostfile[1]])


def undrain(root: str, layout: Identity, node: str, hosts: Sequence[str], *, check: bool) -> DrainOutcome:
    """Have it take runs again; arguments and errors as of `drain`.

    The hostfile first, and last: as long as its record is there the node is drained, whatever stands in there.
    """
    is_mounted(root, False)
    before = read_drained(root, layout).get(node)
    first = write_hostfile(root, layout, _hostfile(layout), hosts, check=check, but=[node])
    entry = _entry(layout, path_of(node), "absent", 0)
    (change,) = apply_all(root, [entry], check, trusted=(layout.uid, layout.gid)) if before else [EntryChange("", "")]
    if before and not check:
        write_hostfile(root, layout, _hostfile(layout), hosts, check=check)
    return DrainOutcome(None, before, [first[0], entry], [first[1], change])


def _entry(layout: Identity, path: str, state: str, mode: int) -> ShareEntry:
    return ShareEntry(path, state, layout.uid, layout.gid, mode)


def _hostfile(layout: Identity) -> ShareEntry:
    return replace(_entry(layout, f"{MESH}/hostfile", "file", 0o644), content="")
