# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node that is taken off the share of the mesh, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_share, node_drain, node_removal
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import apply_nas_files
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import Drained

SERVICE = 61941
LAYOUT = Identity(SERVICE, SERVICE)
HOSTS = ["a", "b", "c"]
PLACES = {"a": {"address": "10.0.0.1", "port": 2222}, "b": {"address": "10.0.0.2", "port": 2222}}
REVOKED = "@revoked * ssh-ed25519 AAAA b\n"
RECORD = {"schema": 1, "address": "10.1.0.1", "slots": 8, "gpus": [], "interface": "", "ssh_mesh_port": 2222}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for module in (node_drain, node_removal):
        monkeypatch.setattr(module, "is_mounted", lambda _root, _check: True)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        for name in (".cluster/nodes", ".cluster/mesh", "users/ada"):
            (root / name).mkdir(parents=True)
        for host in HOSTS:
            (root / f".cluster/nodes/{host}.json").write_text(json.dumps({**RECORD, "host": host, "machine_id": host}))
        (root / ".cluster/mesh/nodes.json").write_text(json.dumps({"schema": 1, "nodes": PLACES}))
        for path in (root, *root.rglob("*")):
            os.chown(path, SERVICE, SERVICE)
        root.chmod(0o755)
        node_drain.drain(top, LAYOUT, Drained("b", "x", "y", "z"), HOSTS, check=False)
        yield root


def remove(share: Path, check: bool = False) -> list[str]:
    done = node_removal.remove(str(share), LAYOUT, "b", ["a", "c"], REVOKED, check=check)
    return [entry.path for entry, change in zip(done.entries, done.changes) if change.changed]


def files(share: Path) -> dict[str, str]:
    return {str(path.relative_to(share)): path.read_text() for path in share.rglob("*") if path.is_file()}


AFTER = {
    ".cluster/mesh/hostfile": "a slots=8\nc slots=8\n",
    ".cluster/mesh/nodes.json": json.dumps({"schema": 1, "nodes": {"a": PLACES["a"]}}) + "\n",
    ".cluster/mesh/revoked": REVOKED,
}


def test_it_is_gone_from_all_of_it_and_nothing_else_is(share: Path) -> None:
    before = files(share)
    would = remove(share, check=True)
    assert files(share) == before
    assert remove(share) == would
    assert would == [
        *(".cluster/mesh/revoked", ".cluster/mesh/nodes.json"),
        *(".cluster/nodes/b.json", ".cluster/mesh/drained/b.json"),
    ]
    kept = {name: before[name] for name in (".cluster/nodes/a.json", ".cluster/nodes/c.json")}
    assert files(share) == {**kept, **AFTER}
    assert (share / "users/ada").is_dir()
    assert remove(share) == []


@pytest.mark.parametrize("turn", range(3))
def test_killed_at_any_write_the_next_run_does_the_rest(
    share: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    left, write = [turn], apply_nas_files.apply_all

    def fails(*arguments: Any, **more: Any) -> Any:
        if left[0] == 0:
            raise InterruptedError
        left[0] -= 1
        return write(*arguments, **more)

    with monkeypatch.context() as patch:
        for module in (mesh_share, node_removal):
            patch.setattr(module, "apply_all", fails)
        with pytest.raises(InterruptedError):
            remove(share)
    remove(share)
    assert {name: text for name, text in files(share).items() if name in AFTER} == AFTER
    assert not (share / ".cluster/nodes/b.json").exists()


@pytest.mark.parametrize("text", ["", "junk", "[]", '{"nodes": []}', "[" * 100000])
def test_a_list_that_is_none_is_left_to_the_role(share: Path, text: str) -> None:
    (share / ".cluster/mesh/nodes.json").write_text(text)
    assert ".cluster/mesh/revoked" in remove(share)
    assert (share / ".cluster/mesh/nodes.json").read_text() == text
