# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records of the nodes: a good one is read, a bad one never hides the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.node_records import read_board

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


def test_records_are_read_by_host(tmp_path: Path) -> None:
    (tmp_path / "gpu01.json").write_text(json.dumps(GOOD))
    (tmp_path / "gpu02.json").write_text(json.dumps({**GOOD, "host": "gpu02", "gpus": ["GPU-1"], "slots": 1}))
    (tmp_path / ".gpu03.json").write_text("half")
    (tmp_path / "notes.txt").write_text("not a record")
    board = read_board(tmp_path)
    assert {host: (record.slots, record.gpus) for host, record in board.records.items()} == {
        "gpu01": (2, ()),
        "gpu02": (1, ("GPU-1",)),
    }
    assert board.damaged == ()


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
    board = read_board(tmp_path)
    assert list(board.records) == ["gpu02"]
    [(name, said)] = board.damaged
    assert name == "gpu01.json"
    assert reason in said


def test_missing_directory_has_no_records(tmp_path: Path) -> None:
    assert read_board(tmp_path / "none").records == {}


def test_directory_in_the_place_of_a_record(tmp_path: Path) -> None:
    (tmp_path / "gpu01.json").mkdir()
    assert [name for name, _ in read_board(tmp_path).damaged] == ["gpu01.json"]
