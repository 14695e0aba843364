# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the mesh has on the share: its layout, the records of the nodes, the user key, and the hostfile."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_user_key import ensure_key
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all, is_mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import read_drained
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import EntryChange, ShareEntry, foreseen
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.node_records import (
    NodeRecord,
    NodeRecords,
    read_records,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


@dataclass(frozen=True)
class Desired:
    """What is to be there.

    Attributes:
        entries: directories and files.
        key, comment: the private key, without content, and what it is called; None: none is made or read.
        hostfile: without content; None: none is written.
        hosts: the nodes, in the order of its lines.
    """

    entries: Sequence[ShareEntry]
    key: ShareEntry | None = None
    comment: str = ""
    hostfile: ShareEntry | None = None
    hosts: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be.

    Attributes:
        entries, changes: all that was looked at.
        public: the public key with its comment; empty without a key.
        damaged: (file, reason) of records that are none.
    """

    entries: Sequence[ShareEntry]
    changes: Sequence[EntryChange]
    public: str = ""
    damaged: Sequence[tuple[str, str]] = ()


def hostfile(records: Mapping[str, NodeRecord], hosts: Iterable[str], drained: Container[str] = ()) -> str:
    """A line for each of these hosts that has a record and takes runs."""
    return "".join(f"{host} slots={records[host].slots}\n" for host in hosts if host in records and host not in drained)


def write_hostfile(
    root: str, layout: Identity, entry: ShareEntry, hosts: Sequence[str], *, check: bool, but: Container[str] = ()
) -> tuple[ShareEntry, EntryChange, Sequence[tuple[str, str]]]:
    """Derive the hostfile from what stands on the share, and once more where that has changed meanwhile.

    Of two that do it at the same time each has left its own record before, so the one that ends last sees both.

    Args:
        entry: the file, without content.
        hosts: the nodes, in the order of its lines.
        but: those that are to take runs although they are drained still.

    Returns:
        The file with its content, what changed, and (file, reason) of records that are none.
    """
    first: EntryChange | None = None
    while True:
        found, drained = _standing(root, layout, hosts, but)
        wanted = replace(entry, content=hostfile(found.records, hosts, drained))
        (change,) = apply_all(root, [wanted], check, trusted=(layout.uid, layout.gid))
        first = first or change
        if check or _standing(root, layout, hosts, but) == (found, drained):
            return wanted, EntryChange(first.before, change.after), found.damaged


def _standing(
    root: str, layout: Identity, hosts: Sequence[str], but: Container[str]
) -> tuple[NodeRecords, frozenset[str]]:
    found = read_records(root, layout, hosts=hosts, owner=layout.uid)
    return found, frozenset(node for node in read_drained(root, layout) if node not in but)


def apply(root: str, layout: Identity, desired: Desired, run: Run, *, check: bool) -> Outcome:
    """Bring it about.

    Args:
        root: where the share is mounted.
        layout: the account, which nobody logs in as, that the layout and the records belong to.
        run: runs ssh-keygen.
        check: change nothing.

    Raises:
        GpusteadError: something there cannot be made or used, or nothing is mounted.
    """
    entries, public = [*desired.entries], ""
    damaged: Sequence[tuple[str, str]] = ()
    if not is_mounted(root, check):
        entries += filter(None, (desired.key, desired.hostfile))
        return Outcome(entries, [foreseen(entry) for entry in entries])
    changes = apply_all(root, entries, check, trusted=(layout.uid, layout.gid))
    if desired.hostfile:
        written, change, damaged = write_hostfile(root, layout, desired.hostfile, desired.hosts, check=check)
        entries.append(written)
        changes.append(change)
    if desired.key:
        change, public = ensure_key(root, desired.key, layout, desired.comment, run, check=check)
        entries.append(desired.key)
        changes.append(change)
    return Outcome(entries, changes, f"{public} {desired.comment}" if public else "", damaged)
