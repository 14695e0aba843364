# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Of two controllers one works, and the other is told who does."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.action import lease as action
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes import lease
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.lease import Lease, release, take

SERVICE = 61941
LAYOUT = Identity(SERVICE, SERVICE)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(lease, "is_mounted", lambda _root, _check: True)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        (root / ".cluster").mkdir()
        for path in (root, root / ".cluster"):
            os.chown(path, SERVICE, SERVICE)
        root.chmod(0o755)
        yield root


def wanted(token: str, seconds: float = 60) -> Lease:
    return Lease(token, f"ops@{token}", "drain of b", time.time() + seconds)


def taken(share: Path, token: str, seconds: float = 60, gone: str = "") -> str:
    """Whose it is instead, or empty."""
    other = take(str(share), LAYOUT, "b", wanted(token, seconds), gone=gone)
    return other.token if other else ""


@needs_root
def test_one_has_it_until_it_gives_it_back(share: Path) -> None:
    assert taken(share, "one") == ""
    assert taken(share, "one") == ""  # and keeps it
    assert taken(share, "two") == "one"
    release(str(share), LAYOUT, "b", "two")
    assert taken(share, "two") == "one"
    release(str(share), LAYOUT, "b", "one")
    assert taken(share, "two") == ""
    assert [path.name for path in (share / ".cluster/leases").iterdir()] == ["b.json"]
    assert (share / ".cluster/leases/b.json").stat().st_uid == SERVICE


@needs_root
@pytest.mark.parametrize("left", ["over", "gone", "damaged", "for ever", "not a number"])
def test_what_nobody_needs_any_more_is_taken(share: Path, left: str) -> None:
    taken(share, "one", seconds=-1 if left == "over" else 60)
    text = {"damaged": "{"}
    for case, until in {"for ever": math.inf, "not a number": math.nan}.items():
        text[case] = json.dumps({**vars(wanted("one")), "until": until})
    if left in text:
        (share / ".cluster/leases/b.json").write_text(text[left])
    assert taken(share, "two", gone="one" if left == "gone" else "") == ""
    assert taken(share, "one") == "two"


@needs_root
def test_of_many_at_the_same_time_one_has_it(share: Path) -> None:
    taken(share, "old", seconds=-1)
    one = """
import sys, time
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes import lease
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
lease.is_mounted = lambda root, check: True
mine = lease.Lease(sys.argv[2], "x", "y", time.time() + 60)
print(lease.take(sys.argv[1], Identity(61941, 61941), "b", mine) is None)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", one, str(share), str(at)], stdout=subprocess.PIPE, env=environment)
        for at in range(6)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in running]
    assert sorted(said) == [b"False"] * 5 + [b"True"]


@needs_root
def test_what_another_has_put_there_meanwhile_stays(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(share, "old", seconds=-1)
    place, read = share / ".cluster/leases/b.json", lease._read

    def another_is_faster(directory: int, file: str) -> Lease | None:
        found = read(directory, file)
        if found and found.token == "old" and file == "b.json":
            place.unlink()
            place.write_text(json.dumps(vars(wanted("fast"))))
        return found

    monkeypatch.setattr(lease, "_read", another_is_faster)
    assert taken(share, "slow") == "fast"


UNTIL = '{{"token": "a", "by": "b", "what": "c", "until": {}}}'


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100000, *map(UNTIL.format, ('"soon"', "NaN", "1e999", "1" + "0" * 400))]
)
def test_a_damaged_lease_is_nobodys(text: str) -> None:
    assert Lease.of(text) == Lease("", "", "", 0.0)


def test_whose_run_it_is_and_whether_it_lives() -> None:
    child = subprocess.Popen(["sleep", "60"])
    token = action.token_of(child.pid)
    here, boot, pid, began = token.rsplit("/", 3)
    assert (pid, began) == (str(child.pid), action.began(child.pid)) and not action.is_gone(token)
    child.kill()
    child.wait()
    assert action.is_gone(token)
    assert action.is_gone(action.token_of(os.getpid()) + "0")  # another one, which had the number before
    assert action.is_gone(f"{here}/another-boot/1/1")
    for others in ("", "a", f"elsewhere/{boot}/{child.pid}/1", f"{here}/{boot}/x/1"):
        assert not action.is_gone(others)


@pytest.mark.parametrize("place", ["_MACHINE", "_PIDS"])
def test_a_machine_or_a_container_of_the_same_name_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """Its processes are not seen from here."""
    token = action.token_of(os.getpid()) + "0"
    assert action.is_gone(token)
    other = tmp_path / "other"
    other.write_text("other") if place == "_MACHINE" else other.symlink_to("pid:[1]")
    monkeypatch.setattr(action, place, other)
    assert not action.is_gone(token)


def test_a_process_that_the_kernel_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another administrator, with hidepid."""
    token = action.token_of(os.getpid())
    monkeypatch.setattr(action, "began", lambda _pid: "")
    assert not action.is_gone(token)


class Host(action.ActionModule):
    """The action, with what the module answers."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers, self.asked = answers, list[dict[str, str]]()

    def _ask(self, holder: dict[str, str], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        self.asked.append(holder)
        return self.answers[len(self.asked) - 1]


@pytest.mark.parametrize("lives", [True, False])
def test_a_run_that_was_killed_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda _self, _tmp, _vars: {})
    token = action.token_of(os.getpid()) + ("" if lives else "0")
    host = Host([{"failed": True, "holder": {"token": token}}, {"by": "me"}])
    answer = host.run(task_vars={})
    assert (answer.get("failed", False), len(host.asked)) == (lives, 1 if lives else 2)
    assert host.asked[0]["token"] == action.token_of(os.getppid()) and "@" in host.asked[0]["by"]
    assert lives or host.asked[1]["gone"] == token
