# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the mesh has on the share, made by two nodes one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_share as library
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_share import Desired, Outcome
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import ShareEntry

ADA, SERVICE = 61500, 61941
LAYOUT = Identity(SERVICE, SERVICE)
RECORD = {"schema": 1, "address": "10.1.0.1", "slots": 8, "gpus": [], "interface": "", "ssh_mesh_port": 2222}
HOSTFILE = ShareEntry(".cluster/mesh/hostfile", "file", SERVICE, SERVICE, 0o644, "")
KEY = ShareEntry(".cluster/mesh/id_ed25519", "file", ADA, ADA, 0o600, through=SERVICE)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(library, "is_mounted", lambda _root, _check: True)
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        os.chown(top, SERVICE, SERVICE)
        yield Path(top)


def layout(host: str) -> list[ShareEntry]:
    modes = {".cluster": 0o755, ".cluster/nodes": 0o755, ".cluster/mesh": 0o1775}
    content = json.dumps({**RECORD, "host": host, "machine_id": host})
    record = ShareEntry(f".cluster/nodes/{host}.json", "file", SERVICE, SERVICE, 0o644, content)
    return [*(ShareEntry(path, "directory", SERVICE, SERVICE, mode) for path, mode in modes.items()), record]


def first(share: Path, host: str, check: bool = False) -> Outcome:
    return library.apply(str(share), LAYOUT, Desired(layout(host), KEY, "ada@mesh"), run, check=check)


def second(share: Path, check: bool = False) -> Outcome:
    desired = Desired([], hostfile=HOSTFILE, hosts=["b", "a", "c", "d"])
    return library.apply(str(share), LAYOUT, desired, run, check=check)


@needs_root
def test_nodes_that_join_take_the_key_and_stand_in_the_hostfile(share: Path) -> None:
    made = first(share, "a")
    assert made.public.startswith("ssh-ed25519 ") and made.public.endswith(" ada@mesh")
    assert all(change.changed for change in made.changes)
    joined = first(share, "b")
    assert joined.public == made.public
    assert [entry.path for entry, change in zip(joined.entries, joined.changes) if change.changed] == [
        ".cluster/nodes/b.json"
    ]
    (share / ".cluster/nodes/c.json").write_text("junk")
    os.chown(share / ".cluster/nodes/c.json", SERVICE, SERVICE)
    found = second(share)
    assert (share / ".cluster/mesh/hostfile").read_text() == "b slots=8\na slots=8\n"
    assert [name for name, _reason in found.damaged] == ["c.json"]
    assert not any(change.changed for change in second(share).changes)


@needs_root
def test_a_check_makes_nothing(share: Path) -> None:
    assert first(share, "a", check=True).public == ""
    assert [*share.iterdir()] == []


def test_where_nothing_is_mounted_a_check_says_what_would_be_made(tmp_path: Path) -> None:
    found = first(tmp_path, "a", check=True)
    assert [change.changed for change in found.changes] == [True] * 5
    with pytest.raises(GpusteadError, match="nothing is mounted"):
        first(tmp_path, "a")
