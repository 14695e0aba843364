# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action with a node beside it: real keys and real ssh-keygen, and what the node is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.gpustead.cluster.plugins.action.mesh_certificate import ActionModule
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import ensure_authority, unlocked
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.ssh_host_key import ensure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
PASSPHRASE = "correct horse"


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Here(ActionModule):
    """Has the library do what the module does on a node, and keeps what that was given."""

    def __init__(self, top: Path, check: bool, **arguments: Any) -> None:
        given = {
            "path": f"{top}/node/key", "authority_key": f"{top}/ca", "passphrase": PASSPHRASE, "key_id": "gpu01",
            "principals": ["gpu01", "10.0.0.11"], "authority": "", **arguments,
        }  # fmt: skip
        self._task = SimpleNamespace(args=given, check_mode=check, async_val=0)
        self._loader = SimpleNamespace(get_basedir=lambda: str(top))
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        self.told: list[dict[str, Any]] = []

    def _execute_module(self, name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        self.told.append(module_args)
        found = ensure(**{"certificate": "", **module_args}, run=run, check=self._task.check_mode)
        diff = [{"before": one.texts()[0], "after": one.texts()[1]} for one in found.plans if one.changed]
        return {
            "changed": any(one.changed for one in found.plans),
            "public": found.public,
            "certificate": found.certificate,
            "diff": diff,
        }


@pytest.fixture
def top() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        Path(folder, "node").mkdir(mode=0o755)
        yield Path(folder)


@pytest.fixture
def authority(top: Path) -> str:
    with unlocked(PASSPHRASE) as (keygen, _work):
        return ensure_authority(keygen, top / "ca", PASSPHRASE, False)[0]


def test_what_is_certified_is_noted_and_a_copied_disk_is_refused(top: Path, authority: str) -> None:
    Here(top, False, authority=authority).run(task_vars={})
    keys = HostKeys(top / "ca")
    (mine,) = keys.certified("gpu01")
    assert (top / "node/key.pub").read_text().startswith(mine)
    # A cluster of an earlier release has noted nothing: what is good is noted, too.
    (top / "ca.hosts/gpu01").unlink()
    assert Here(top, False, authority=authority).run(task_vars={})["reason"] == ""
    assert keys.certified("gpu01") == [mine]
    with pytest.raises(AnsibleActionFail, match="gpu02 has the host key of gpu01"):
        Here(top, False, authority=authority, key_id="gpu02").run(task_vars={})
    keys.revoke("gpu01")
    with pytest.raises(AnsibleActionFail, match="gpu01 has a host key that was revoked"):
        Here(top, False, authority=authority).run(task_vars={})


def test_a_new_node_is_certified_once(top: Path, authority: str) -> None:
    first = Here(top, False, authority=authority)
    made = first.run(task_vars={})
    assert (made["changed"], made["reason"], len(first.told)) == (True, "there is none", 2)
    assert PASSPHRASE not in str(first.told) + str(made) and "PRIVATE" not in str(first.told) + str(made)
    assert len(made["diff"]) == 3
    again = Here(top, False, authority=authority)
    kept = again.run(task_vars={})
    assert (kept["changed"], kept["reason"], len(again.told)) == (False, "", 1)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (top / "node").iterdir()}
    assert modes == {"key": 0o600, "key.pub": 0o644, "key-cert.pub": 0o644}
    listing = run(["ssh-keygen", "-L", "-f", f"{top}/node/key-cert.pub"])[1]
    assert "host certificate" in listing and "10.0.0.11" in listing
    public = run(["ssh-keygen", "-y", "-f", f"{top}/node/key"])[1]
    assert (top / "node/key.pub").read_text() == public == f"{' '.join(public.split()[:2])} gpu01\n"


def test_modes_are_put_back_where_nothing_is_to_be_written(top: Path, authority: str) -> None:
    Here(top, False, authority=authority).run(task_vars={})
    content = (top / "node/key-cert.pub").read_text()
    for path in (top / "node").iterdir():
        path.chmod(0o666)
    put = Here(top, False, authority=authority).run(task_vars={})
    assert (put["changed"], put["reason"]) == (True, "")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (top / "node").iterdir()}
    assert modes == {"key": 0o600, "key.pub": 0o644, "key-cert.pub": 0o644}
    assert (top / "node/key-cert.pub").read_text() == content


def test_another_address_needs_another_certificate_and_not_another_key(top: Path, authority: str) -> None:
    Here(top, False, authority=authority).run(task_vars={})
    public = (top / "node/key.pub").read_text()
    moved = Here(top, True, authority=authority, principals=["gpu01", "10.0.0.12"]).run(task_vars={})
    assert moved["changed"] and moved["reason"].startswith("it is for gpu01")
    moved = Here(top, False, authority=authority, principals=["gpu01", "10.0.0.12"]).run(task_vars={})
    assert moved["changed"] and "10.0.0.12" in run(["ssh-keygen", "-L", "-f", f"{top}/node/key-cert.pub"])[1]
    assert (top / "node/key.pub").read_text() == public


@pytest.mark.parametrize("folder", [True, False])
def test_a_check_makes_nothing(top: Path, folder: bool) -> None:
    if not folder:
        (top / "node").rmdir()
    found = Here(top, True).run(task_vars={})
    assert (found["changed"], found["reason"]) == (True, "there is none")
    assert [*top.glob("node/*")] == []


def test_an_authority_is_found_from_the_playbook_where_its_path_is_relative(top: Path, authority: str) -> None:
    assert Here(top, False, authority=authority, authority_key="ca").run(task_vars={})["reason"] == "there is none"
    assert (top / "node/key-cert.pub").exists()


def test_a_wrong_passphrase_names_the_authority(top: Path, authority: str) -> None:
    with pytest.raises(AnsibleActionFail, match=f"Look at {top}/ca and its passphrase"):
        Here(top, False, authority=authority, passphrase="wrong horse one").run(task_vars={})


def test_what_is_lost_of_a_key_is_put_back(top: Path) -> None:
    made = ensure(f"{top}/node/key", "gpu01", "", run, check=False)
    (top / "node/key.pub").unlink()
    (top / "node/key").chmod(0o644)
    put = ensure(f"{top}/node/key", "gpu02", "", run, check=False)
    assert [one.changed for one in put.plans] == [True, True, False]
    assert put.public == made.public.replace("gpu01", "gpu02")
    assert (top / "node/key").stat().st_mode & 0o777 == 0o600
