# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record that each node leaves on the NAS: <nas>/.cluster/nodes/<host>.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

SCHEMA = 1


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
class Board:
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
    if not isinstance(data, dict):
        raise wrong(f"a JSON {type(data).__name__}", "a JSON object")
    if data.get("schema") != SCHEMA:
        raise wrong(f"schema {data.get('schema')!r}", f"schema {SCHEMA}")
    kinds = {
        "host": str,
        "address": str,
        "slots": int,
        "interface": str,
        "ssh_mesh_port": int,
        "machine_id": str,
    }
    for key, kind in kinds.items():
        if type(data.get(key)) is not kind:
            raise wrong(f"{key} is {data.get(key)!r}", f"{key} of type {kind.__name__}")
    gpus = data.get("gpus")
    if not isinstance(gpus, list) or not all(isinstance(uuid, str) for uuid in gpus):
        raise wrong(f"gpus is {gpus!r}", "a list of UUIDs")
    if data["host"] != host:
        raise wrong(f"host is {data['host']!r}", f"the record of {host}")
    if data["slots"] < 1:
        raise wrong(f"slots is {data['slots']}", "at least one slot")
    return NodeRecord(gpus=tuple(gpus), **{key: data[key] for key in kinds})


def read_board(directory: Path) -> Board:
    """Read all records. One that is damaged never hides the others, nor a directory that is not there yet."""
    records: dict[str, NodeRecord] = {}
    damaged: list[tuple[str, str]] = []
    # Writers keep their temporary files hidden, and a glob with a star leaves hidden files in.
    for path in sorted(p for p in directory.glob("*.json") if not p.name.startswith(".")):
        try:
            records[path.stem] = parse_record(path.read_text(encoding="utf-8"), path.stem)
        except GpusteadError as error:
            damaged.append((path.name, str(error)))
        except (OSError, UnicodeDecodeError) as error:
            damaged.append((path.name, f"cannot be read: {error}"))
    return Board(records, tuple(damaged))
