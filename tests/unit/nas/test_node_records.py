# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records of the nodes: a good one is read, a bad one never hides the others."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.node_records import (
    MOST_NAMES,
    NodeRecords,
    read_records,
)

SERVICE = Identity(61941, 61941) if os.geteuid() == 0 else Identity(os.geteuid(), os.getegid())

GOOD: dict[str, Any] = {
    "schema": 1,
    "host": "gpu01",
    "address": "10.0.0.11",
    "slots": 2,
    "gpus": [],
    "interface": "eth0",
    "ssh_mesh_port": 2222,
    "machine_id": "5b0e1f0c6a7d4e0b8d1c2f3a4b5c6d7e",
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Where the service account may read, whatever another run of pytest does with its own directory."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        yield Path(top)


def records_of(path: Path, **options: Any) -> NodeRecords:
    return read_records(str(path.parent), SERVICE, directory=path.name, **options)


def test_records_are_read_by_host(tmp_path: Path) -> None:
    (tmp_path / "gpu01.json").write_text(json.dumps(GOOD))
    (tmp_path / "gpu02.json").write_text(json.dumps({**GOOD, "host": "gpu02", "gpus": ["GPU-1"], "slots": 1}))
    (tmp_path / ".gpu03.json").write_text("half")
    (tmp_path / "notes.txt").write_text("not a record")
    found = records_of(tmp_path)
    assert {host: (record.slots, record.gpus) for host, record in found.records.items()} == {
        "gpu01": (2, ()),
        "gpu02": (1, ("GPU-1",)),
    }
    assert found.damaged == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "a JSON list"),
        (json.dumps({**GOOD, "schema": 2}), "schema 2"),
        (json.dumps({**GOOD, "host": "gpu09"}), "host is 'gpu09'"),
        (json.dumps({**GOOD, "slots": "2"}), "slots is '2'"),
        (json.dumps({**GOOD, "slots": True}), "slots is True"),
        (json.dumps({**GOOD, "slots": 0}), "slots is 0"),
        (json.dumps({**GOOD, "gpus": [1]}), "gpus is [1]"),
        (json.dumps({key: value for key, value in GOOD.items() if key != "address"}), "address is None"),
        ("\ud800", "cannot be read"),
    ],
)
def test_damaged_record_is_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "gpu01.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    (tmp_path / "gpu02.json").write_text(json.dumps({**GOOD, "host": "gpu02"}))
    found = records_of(tmp_path)
    assert list(found.records) == ["gpu02"]
    [(name, said)] = found.damaged
    assert name == "gpu01.json"
    assert reason in said


def test_missing_directory_has_no_records(tmp_path: Path) -> None:
    assert records_of(tmp_path / "none").records == {}


def test_directory_in_the_place_of_a_record(tmp_path: Path) -> None:
    (tmp_path / "gpu01.json").mkdir()
    assert [name for name, _ in records_of(tmp_path).damaged] == ["gpu01.json"]


Trap = Callable[[Path], object]
TRAPS: dict[str, tuple[Trap, str]] = {
    "a FIFO": (os.mkfifo, "no regular file"),
    "a link without end": (lambda path: path.symlink_to("/dev/zero"), "symbolic link"),
    "a link to another record": (lambda path: path.symlink_to("gpu01.json"), "symbolic link"),
    "a directory": (lambda path: path.mkdir(), "no regular file"),
    "a file without end": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "longer than"),
    "deep JSON": (lambda path: path.write_text("[" * 60_000), "nested too deeply"),
    "deeper JSON": (lambda path: path.write_text("[" * 200_000), "longer than"),
    "deep JSON in its place": (
        lambda path: path.write_text(json.dumps(GOOD)[:-1] + ', "x": ' + "[" * 900 + "]" * 900 + "}"),
        "host is",
    ),
    "a number without end": (
        lambda path: path.write_text(json.dumps(GOOD)[:-1] + ', "slots": 1' + "0" * 9999 + "}"),
        "",
    ),
    "layers": (lambda path: path.write_text('{"layers":[{}]}'), "schema"),
    "a value that moves the cursor": (lambda path: path.write_text('{"schema": "\\u001b[2J"}'), "schema"),
    "nothing to read for the account": (lambda path: path.touch(0o600), "cannot be read"),
}


@pytest.mark.parametrize("case", TRAPS)
@pytest.mark.parametrize("hosts", [None, ["gpu01", "gpu02", "gpu03"]])
def test_a_trap_hides_no_record(tmp_path: Path, case: str, hosts: list[str] | None) -> None:
    trap, reason = TRAPS[case]
    for name in ("gpu01", "gpu03"):
        (tmp_path / f"{name}.json").write_text(json.dumps({**GOOD, "host": name}))
    trap(tmp_path / "gpu02.json")
    began = time.monotonic()
    found = records_of(tmp_path, hosts=hosts)
    assert time.monotonic() - began < 10
    assert list(found.records) == ["gpu01", "gpu03"]
    [(name, said)] = found.damaged
    assert name == "gpu02.json" and reason in said
    assert said.isprintable() and len(said) < 500


def test_names_of_any_kind_and_number_hide_no_record(tmp_path: Path) -> None:
    (tmp_path / "gpu01.json").write_text(json.dumps(GOOD))
    for number in range(MOST_NAMES + 10):
        (tmp_path / f"{number}.json").symlink_to("gpu01.json")
    for name in (b"new\nline.json", b"\x1b[2J.json", b"\xff\xfe.json"):
        os.mkfifo(os.fsencode(tmp_path) + b"/" + name)
    assert list(records_of(tmp_path, hosts=["gpu01", "gpu02"]).records) == ["gpu01"]
    found = records_of(tmp_path)
    assert len(found.damaged) < 200
    assert all(name.isprintable() and said.isprintable() for name, said in found.damaged)
    assert any("more than" in said for _, said in found.damaged) or found.damaged[-1][0] == "…"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other owners")
def test_a_record_of_an_account_is_none(tmp_path: Path) -> None:
    for name, uid in (("gpu01", SERVICE.uid), ("gpu02", 61500)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**GOOD, "host": name}))
        os.chown(tmp_path / f"{name}.json", uid, uid)
    found = records_of(tmp_path, owner=SERVICE.uid)
    assert list(found.records) == ["gpu01"]
    assert "belongs to uid 61500" in found.damaged[0][1]


def test_the_directory_may_be_no_link(tmp_path: Path) -> None:
    (tmp_path / "nodes").symlink_to("/etc")
    with pytest.raises(GpusteadError, match="symbolic link"):
        records_of(tmp_path / "nodes")
