# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Observing: whatever fails or hangs, each subject gets its value and the others keep theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import probes
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import PROBES, Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Unreadable, run_command

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mounted(root: Path, *mounts: tuple[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True)
    lines = [f"{number} 1 0:{number} / {path} rw - {kind} src rw" for number, (path, kind) in enumerate(mounts, 2)]
    (root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")


def test_every_specification_gets_a_value(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    specs: list[tuple[str, dict[str, Any]]] = [
        ("file", {"name": "/file"}),
        ("file", {"name": "relative"}),
        ("file", {"name": "/file", "as": "bob"}),
        ("nonsense", {"name": "x"}),
        ("package", {"name": "bash"}),
        ("image", {"name": "a b"}),
        ("file", {}),
        ("user", {"name": "root"}),
        ("block", {"name": "/file/below", "marker": "m"}),
        ("json_keys", {"name": "/file", "keys": ["a"]}),
    ]
    values = observe(specs[:2] + specs[3:], Host(str(tmp_path)))
    assert set(values) == {f"{kind} {subject.get('name')}" for kind, subject in specs}
    assert values.pop("file /file")["type"] == "file"
    assert values.pop("block /file/below") is None
    assert all(set(value) == {"error"} for value in values.values()), values
    assert "bob" in observe(specs[2:3], Host(str(tmp_path)))["file /file"]["error"]


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_no_probe_raises_on_an_empty_host(kind: str, tmp_path: Path) -> None:
    def nothing(argv: object, timeout: float) -> tuple[int, str, str]:
        return 127, "", "not found"

    host = Host(str(tmp_path), run=nothing, docker=str(tmp_path / "none.sock"))
    subjects: list[dict[str, Any]] = [{"name": "/x", "keys": ["a"], "files": ["/y"], "marker": "m"}, {"name": "x:y"}]
    values = observe([(kind, subject) for subject in subjects], host)
    assert set(values) == {f"{kind} /x", f"{kind} x:y"}


@needs_root
def test_as_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for parent in list(tmp_path.parents)[:2]:  # pytest keeps its directories to itself
        parent.chmod(0o711)
    private = tmp_path / "home"
    private.mkdir()
    os.chown(private, 4242, 4243)
    private.chmod(0o700)
    (private / "key").write_text("k")
    os.chown(private / "key", 4242, 4243)
    host = Host(str(tmp_path))

    def seen(**options: object) -> Any:
        return observe([("file", {"name": "/home/key", **options})], host)["file /home/key"]

    assert seen()["owner"] == "4242:4243"
    assert seen() == seen(**{"as": 4242}) == seen(**{"as": "4242:4243"})
    assert "Permission denied" in seen(**{"as": 4244})["error"]


def test_a_child_that_does_not_answer_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(tmp_path, ("/", "ext4"), ("/mnt/nas", "nfs4"), ("/mnt/other", "fuse.glusterfs"))
    (tmp_path / "mnt/other").mkdir(parents=True)
    pids = tmp_path / "pids"

    def sleep(subjects: Any, host: Host) -> Any:
        if any("nas" in subject["name"] for subject in subjects):
            pids.write_text(str(os.getpid()))
            time.sleep(60)
        return {subject["name"]: {"pid": os.getpid()} for subject in subjects}

    monkeypatch.setitem(PROBES, "file", sleep)
    names = ["/mnt/nas/a", "/mnt/nas/b", "/mnt/other/c", "/etc/d"]
    began = time.monotonic()
    values = observe([("file", {"name": name}) for name in names], Host(str(tmp_path)), timeout=0.5)
    assert time.monotonic() - began < 5
    assert values["file /mnt/nas/a"] == values["file /mnt/nas/b"] == {"error": "did not answer within 0.5 s"}
    assert values["file /mnt/other/c"]["pid"] not in (os.getpid(), int(pids.read_text()))
    assert values["file /etc/d"] == {"pid": os.getpid()}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_a_child_that_dies_is_an_error_and_a_long_answer_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(tmp_path, ("/a", "cifs"), ("/b", "nfs"))

    def probe(subjects: Any, host: Host) -> Any:
        if subjects[0]["name"] == "/a":
            os._exit(3)
        return {subject["name"]: {"text": "x" * 1_000_000} for subject in subjects}

    monkeypatch.setitem(PROBES, "file", probe)
    values = observe([("file", {"name": name}) for name in ("/a", "/b")], Host(str(tmp_path)))
    assert "without an answer" in values["file /a"]["error"]
    assert len(values["file /b"]["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("kind", "name", "apart"),
    [
        ("file", "/etc/x", False),
        ("file", "/mnt/nas", True),
        ("file", "/mnt/nas/x", True),
        ("file", "/mnt/nasty", False),
        ("file", "/link/x", True),
        ("file", "/relative/x", True),
        ("file", "/etc/../mnt/nas/x", True),
        ("file", "/loop/x", False),
        ("file", "/auto/x", True),
        ("mount", "/mnt/nas", False),
        ("mountpoint", "/mnt/nas", False),
        ("mountpoint", "/mnt/nas/inner", True),
    ],
)
def test_network_file_systems_are_touched_by_children_only(
    kind: str, name: str, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(tmp_path, ("/", "ext4"), ("/mnt/nas", "fuse.glusterfs"), ("/auto", "autofs"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to("/etc/hop")
    (tmp_path / "etc/hop").symlink_to("/mnt/nas")
    (tmp_path / "relative").symlink_to("etc/../mnt/./nas")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setitem(PROBES, kind, lambda subjects, host: {name: {"pid": os.getpid()}})
    value = observe([(kind, {"name": name})], Host(str(tmp_path)))[f"{kind} {name}"]
    assert (value["pid"] != os.getpid()) is apart


def test_a_child_that_says_too_much_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(tmp_path, ("/a", "nfs"))
    monkeypatch.setattr(probes, "_SIZE", 1 << 20)
    monkeypatch.setitem(PROBES, "file", lambda subjects, host: {"/a": {"text": "x" * 2_000_000}})
    assert observe([("file", {"name": "/a"})], Host(str(tmp_path))) == {
        "file /a": {"error": "answers with more than it may"}
    }


def test_a_file_without_an_end_is_no_file_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(Unreadable, match="/endless is longer than 64 MiB"):
        Host(str(tmp_path)).read("/endless")


@pytest.mark.parametrize("kind", ["file", "lines", "block", "json_keys"])
def test_a_file_of_an_account_without_an_end_takes_no_time(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    subject = {"name": "/huge", "as": f"{os.getuid()}:{os.getgid()}", "lines": ["x"], "marker": "x", "keys": ["x"]}
    began = time.monotonic()
    value = observe([(kind, subject)], Host(str(tmp_path)))[f"{kind} /huge"]
    assert "longer than" in value["error"]
    assert time.monotonic() - began < 10


def test_commands() -> None:
    assert run_command(["sh", "-c", "echo $LC_ALL; cat; exit 3"], 10) == (3, "C\n", "")
    assert run_command(["/no/such/command"], 10)[0] == 127
    began = time.monotonic()
    assert run_command(["sleep", "30"], 0.2)[0] == 124
    assert time.monotonic() - began < 5


def test_what_is_read_once_is_read_again_by_the_next_observation(tmp_path: Path) -> None:
    calls: list[tuple[str, ...]] = []

    def run(argv: Any, timeout: float) -> tuple[int, str, str]:
        calls.append(tuple(argv))
        return 0, "*filter\n:INPUT DROP [0:0]\n:mine - [0:0]\n-A mine -j DROP\nCOMMIT\n", ""

    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/if_inet6").write_text("")
    host = Host(str(tmp_path), run=run)
    specs = [("chain", {"name": "mine"}), ("chain", {"name": "other"}), ("ufw_rules", {"name": "x"})]
    assert observe(specs, host)["chain mine"] == {"v4": ["-j DROP"], "v6": ["-j DROP"]}
    assert calls == [("iptables-save", "-t", "filter"), ("ip6tables-save", "-t", "filter")]
    observe(specs, host)
    assert len(calls) == 4


@needs_root
def test_no_child_holds_what_the_caller_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SSH session ends when nobody holds its output: not even a child that hangs."""

    def probe(subjects: Any, host: Host) -> Any:
        return {"/": {"open": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]}}

    monkeypatch.setitem(PROBES, "file", probe)
    values = observe([("file", {"name": "/", "as": os.geteuid()})], Host())
    assert values["file /"] == {"open": ["/dev/null"] * 3}
