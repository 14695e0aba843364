# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node that is taken out of new runs, and back: what stands on the share, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_share, node_drain
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import apply_nas_files
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import (
    DAMAGED,
    Drained,
    parse,
    path_of,
    read_drained,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import ShareEntry

SERVICE = 61941
LAYOUT = Identity(SERVICE, SERVICE)
HOSTS = ["a", "b", "c"]
WANTED = Drained("b", "2026-11-30T12:00:00Z", "ops@here", "new driver")
RECORD = {"schema": 1, "address": "10.1.0.1", "slots": 8, "gpus": [], "interface": "", "ssh_mesh_port": 2222}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(node_drain, "is_mounted", lambda _root, _check: True)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        for name in (".cluster/nodes", ".cluster/mesh"):
            (root / name).mkdir(parents=True)
        for host in HOSTS:
            (root / f".cluster/nodes/{host}.json").write_text(json.dumps({**RECORD, "host": host, "machine_id": host}))
        for path in (root, *root.rglob("*")):
            os.chown(path, SERVICE, SERVICE)
        root.chmod(0o755)
        yield root


def hostfile(share: Path) -> str:
    return " ".join(line.split()[0] for line in (share / ".cluster/mesh/hostfile").read_text().splitlines())


def drain(share: Path, wanted: Drained = WANTED, check: bool = False) -> node_drain.DrainOutcome:
    return node_drain.drain(str(share), LAYOUT, wanted, HOSTS, check=check)


def undrain(share: Path, node: str = "b", check: bool = False) -> node_drain.DrainOutcome:
    return node_drain.undrain(str(share), LAYOUT, node, HOSTS, check=check)


def changed(done: node_drain.DrainOutcome) -> list[str]:
    return [entry.path for entry, change in zip(done.entries, done.changes) if change.changed]


def test_out_and_back(share: Path) -> None:
    assert undrain(share).before is None
    assert hostfile(share) == "a b c"
    done = drain(share)
    assert changed(done) == [".cluster/mesh/drained", path_of("b"), ".cluster/mesh/hostfile"]
    assert hostfile(share) == "a c"
    assert read_drained(str(share), LAYOUT) == {"b": WANTED}
    assert (share / path_of("b")).stat().st_uid == SERVICE
    again = drain(share, Drained("b", "2026-12-01T12:00:00Z", "ops@here", "new driver"))
    assert changed(again) == [] and again.record == WANTED
    other = drain(share, Drained("b", "2026-12-01T12:00:00Z", "eve@there", "disk"))
    assert other.record == Drained("b", WANTED.since, "eve@there", "disk") and changed(other) == [path_of("b")]
    back = undrain(share)
    assert back.before == other.record and changed(back) == [".cluster/mesh/hostfile", path_of("b")]
    assert hostfile(share) == "a b c" and read_drained(str(share), LAYOUT) == {}
    assert changed(undrain(share)) == []


def test_a_check_says_it_and_changes_nothing(share: Path) -> None:
    undrain(share)
    done = drain(share, check=True)
    assert changed(done) == [".cluster/mesh/drained", path_of("b"), ".cluster/mesh/hostfile"]
    assert done.changes[-1].after.endswith("a slots=8\nc slots=8\n")
    assert hostfile(share) == "a b c" and not (share / ".cluster/mesh/drained").exists()
    drain(share)
    assert changed(undrain(share, check=True)) == [".cluster/mesh/hostfile", path_of("b")]
    assert hostfile(share) == "a c" and [*read_drained(str(share), LAYOUT)] == ["b"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("turn", range(6))
@pytest.mark.parametrize("work", [drain, undrain])
def test_killed_at_any_write_it_is_drained_or_not_and_runs_again(
    share: Path, monkeypatch: pytest.MonkeyPatch, turn: int, work: Any
) -> None:
    undrain(share)
    if work is undrain:
        drain(share)
    left = [turn]
    write = apply_nas_files.apply_all

    def fails(*arguments: Any, **more: Any) -> Any:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return write(*arguments, **more)

    with monkeypatch.context() as patch:
        for module in (mesh_share, node_drain):
            patch.setattr(module, "apply_all", fails)
        with contextlib.suppress(Killed):
            work(share)
        if left[0] == 0:  # what the record does not say, the hostfile must not say, either
            assert "b" in read_drained(str(share), LAYOUT) or "b" in hostfile(share)
    work(share)
    drained = work is drain
    assert ("b" in read_drained(str(share), LAYOUT)) is drained
    assert ("b" not in hostfile(share)) is drained


def test_of_two_at_the_same_time_the_last_sees_both(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undrain(share)
    write, others = apply_nas_files.apply_all, [Drained("c", reason="x", since="y", by="z")]

    def meanwhile(root: str, entries: Sequence[ShareEntry], *more: Any, **named: Any) -> Any:
        if others:
            drain(share, others.pop())
        return write(root, entries, *more, **named)

    monkeypatch.setattr(mesh_share, "apply_all", meanwhile)
    drain(share)
    assert hostfile(share) == "a"


@pytest.mark.parametrize("text", ["", "junk", "[]", "[" * 100000, '{"schema": 2}', WANTED.text().replace('"b"', '"a"')])
def test_a_damaged_record_is_one(share: Path, text: str) -> None:
    drain(share)
    (share / path_of("b")).write_text(text)
    assert read_drained(str(share), LAYOUT)["b"] == Drained("b", reason=DAMAGED)
    assert drain(share).record == WANTED


def test_what_is_no_file_of_the_layouts_is_a_damaged_record(share: Path) -> None:
    drain(share)
    place = share / ".cluster/mesh/drained"
    (place / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(place / "pipe.json")
    (place / "roots.json").write_text(Drained("roots", "a", "b", "c").text())
    (place / ".b.json.0123456789ab.tmp").write_text("half")
    found = read_drained(str(share), LAYOUT)
    assert {node: one.reason for node, one in found.items()} == {
        "b": "new driver",
        **dict.fromkeys(("link", "pipe", "roots"), DAMAGED),
    }


def test_a_record_is_shown_escaped() -> None:
    assert parse(Drained("b", reason="a\x1b[2J").text(), "b").reason == "a\\x1b[2J"


def test_where_nobody_may_write_it_is_said(share: Path) -> None:
    os.chown(share / ".cluster/mesh", 61500, 61500)
    with pytest.raises(GpusteadError, match="cannot be written by uid 61941"):
        drain(share)
