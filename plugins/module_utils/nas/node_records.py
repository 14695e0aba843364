# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record that each node leaves on the NAS: <nas>/.cluster/nodes/<host>.json."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

SCHEMA = 1
# A record has some 300 bytes, and one of 16 GPUs 1,000.
SIZE = 1 << 16
# Names of a directory that are looked at, and records that are named as damaged.
MOST_NAMES, MOST_DAMAGED = 5000, 100


@dataclass(frozen=True)
class NodeRecord:
    host: str
    address: str
    slots: int
    gpus: tuple[str, ...]
    interface: str
    ssh_mesh_port: int
    machine_id: str


@dataclass(frozen=True)
class NodeRecords:
    """All records of a directory, and what there could not be read as one: (file name, reason)."""

    records: Mapping[str, NodeRecord]
    damaged: tuple[tuple[str, str], ...]


def parse_record(text: str, host: str) -> NodeRecord:
    """Read the record of `host`; a GpusteadError says what is wrong with it."""

    def wrong(what: str, expected: str) -> GpusteadError:
        return GpusteadError(f"{host}.json: {what}", expected, f"Run the site playbook with --limit {host}.")

    try:
        data = json.loads(text)
    except ValueError as error:
        raise wrong(f"not JSON ({error})", "a JSON object") from error
    except RecursionError as error:
        raise wrong("JSON that is nested too deeply", "a JSON object") from error
    if not isinstance(data, dict):
        raise wrong(f"a JSON {type(data).__name__}", "a JSON object")
    if data.get("schema") != SCHEMA:
        raise wrong(f"schema {_short(data.get('schema'))}", f"schema {SCHEMA}")
    kinds = {
        "host": str,
        "address": str,
        "slots": int,
        "interface": str,
        "ssh_mesh_port": int,
        "machine_id": str,
    }
    for key, kind in kinds.items():
        if not isinstance(data.get(key), kind) or isinstance(data[key], bool):
            raise wrong(f"{key} is {_short(data.get(key))}", f"{key} of type {kind.__name__}")
    gpus = data.get("gpus")
    if not isinstance(gpus, list) or not all(isinstance(uuid, str) for uuid in gpus):
        raise wrong(f"gpus is {_short(gpus)}", "a list of UUIDs")
    odd = next((text for text in (host, *(data[key] for key in kinds), *gpus) if not str(text).isprintable()), None)
    if odd is not None:  # in a hostfile, in an answer of Ansible's, on a terminal
        raise wrong(f"it holds {_short(odd)}", "printable text")
    if data["host"] != host:
        raise wrong(f"host is {_short(data['host'])}", f"the record of {host}")
    if not 1 <= data["slots"] < 1 << 31:
        raise wrong(f"slots is {_short(data['slots'])}", "at least one slot")
    return NodeRecord(gpus=tuple(gpus), **{key: data[key] for key in kinds})


def _short(value: object) -> str:
    """Somebody else's value in a message."""
    try:
        return shown(repr(value), 80)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python writes
        return f"a {type(value).__name__}"


def read_records(
    root: str,
    who: Identity,
    *,
    directory: str = ".cluster/nodes",
    hosts: Sequence[str] | None = None,
    owner: int | None = None,
    timeout: float = 60,
) -> NodeRecords:
    """Read the records. One that is damaged never hides the others, nor a directory that is not there yet.

    Args:
        root: where the share is mounted; a path that only root can change.
        who: as whom it is read.
        directory: where the records are, below it.
        hosts: whose records are read; without them all that are there, up to a limit.
        owner: uid that they must belong to.
        timeout: seconds for all of them.

    Raises:
        GpusteadError: the directory cannot be read, or not in time.
    """
    place = os.path.join(root, directory)

    def work() -> list[Any]:
        try:
            opened = as_account.open_beneath(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return [{}, []]
        try:
            names = None if hosts is None else [f"{host}.json" for host in hosts]
            return _read_all(opened, names, owner)
        finally:
            os.close(opened)

    try:
        records, damaged = as_account.run(work, who, timeout=timeout, size=64 << 20, place=place)
    except PermissionError as error:
        what = f"{place} cannot be read by uid {who.uid} ({error.strerror})"
        raise GpusteadError(what, "it to be", "Give it mode 0755, as role accounts does.") from error
    return NodeRecords(
        {host: NodeRecord(**{**record, "gpus": tuple(record["gpus"])}) for host, record in records.items()},
        tuple((name, reason) for name, reason in damaged),
    )


def _read_all(directory: int, names: Sequence[str] | None, owner: int | None) -> list[Any]:
    """[records by host, [(file name, reason), ...]] of an open directory."""
    records: dict[str, Any] = {}
    damaged: list[tuple[str, str]] = []
    for name in names if names is not None else _names(directory, damaged):
        try:
            record = _read_one(directory, name, owner)
        except FileNotFoundError:
            continue
        except GpusteadError as error:
            damaged.append((shown(name), shown(error)))
        except (OSError, UnicodeError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            damaged.append((shown(name), f"cannot be read: {shown(reason)}"))
        else:
            records[record.host] = asdict(record)
    more = len(damaged) - MOST_DAMAGED
    return [records, damaged[:MOST_DAMAGED] + ([("…", f"{more} more cannot be used")] if more > 0 else [])]


def _names(directory: int, damaged: list[tuple[str, str]]) -> Iterator[str]:
    # Writers keep their temporary files hidden.
    names = []
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            if count >= MOST_NAMES:
                damaged.append(("…", f"the directory holds more than {MOST_NAMES} names, and was not read to its end"))
                break
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                names.append(entry.name)
    yield from sorted(names)


def _read_one(directory: int, name: str, owner: int | None) -> NodeRecord:
    file = as_account.open_beneath(directory, name)
    try:
        as_account.regular(file, name, owner)
        text = as_account.contents(file, name, SIZE).decode()
    finally:
        os.close(file)
    return parse_record(text, name[: -len(".json")])
