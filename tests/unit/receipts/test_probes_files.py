# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Probes of files, on real files."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe

SALT = b"salt of the host"
Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def ask(kind: str, name: str, **options: object) -> Any:
        subject = {"name": name, **options}
        return observe([(kind, subject)], Host(str(tmp_path), SALT))[f"{kind} {name}"]

    return ask


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def salted(text: str) -> str:
    return hmac.new(SALT, text.encode(), "sha256").hexdigest()


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_file(ask: Ask, tmp_path: Path) -> None:
    me = f"{os.getuid()}:{os.getgid()}"
    write(tmp_path / "f", "text", 0o4750)
    about = {"type": "file", "mode": "4750", "owner": me}
    assert ask("file", "/f") == {**about, "sha256": sha("text")}
    assert ask("file", "/f", secret=True) == {**about, "sha256": salted("text")}
    assert ask("file", "/f", content=False) == about
    assert ask("file", "/none") is None
    assert ask("file", "/f/below") is None
    (tmp_path / "link").symlink_to("f")
    assert ask("file", "/link") == {"type": "link", "mode": "0777", "owner": me, "target": "f"}
    (tmp_path / "dir").mkdir(mode=0o700)
    assert ask("file", "/dir") == {"type": "directory", "mode": "0700", "owner": me}
    os.mkfifo(tmp_path / "fifo")
    assert ask("file", "/fifo")["type"] == "other"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("file", {}),
        ("tree", {}),
        ("block", {"marker": "m"}),
        ("json_keys", {"keys": ["a"]}),
        ("lines", {"lines": ["hunter2"]}),
    ],
)
def test_a_secret_without_salt_is_refused(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    text = "# BEGIN m\nhunter2\n# END m\n" if kind != "json_keys" else '{"a": "hunter2"}'
    write(tmp_path / "d/f", text)
    name = "/d" if kind == "tree" else "/d/f"
    value = observe([(kind, {"name": name, "secret": True, **options})], Host(str(tmp_path)))[f"{kind} {name}"]
    assert "salt" in value["error"]


@pytest.mark.parametrize("kind", ["block", "json_keys", "lines"])
def test_links_and_pipes_are_not_read(kind: str, ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "f", '# BEGIN m\n{"a": 1}\n# END m')
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo")
    for name, what in (("/link", "a link"), ("/fifo", "a special file"), ("/", "a directory")):
        assert what in ask(kind, name, marker="m", keys=["a"], lines=["x"])["error"]


def test_tree(ask: Ask, tmp_path: Path) -> None:
    assert ask("tree", "/t") is None
    write(tmp_path / "t/a.crt", "a")
    write(tmp_path / "t/sub/b.crt", "b")
    write(tmp_path / "t/sub/c.key", "c")
    (tmp_path / "t/link").symlink_to("/etc")
    os.mkfifo(tmp_path / "t/fifo")
    whole, some = ask("tree", "/t"), ask("tree", "/t", pattern="*.crt")
    assert (whole["count"], some["count"]) == (6, 2)
    assert ask("tree", "/t/") == whole
    assert ask("tree", "/t", secret=True)["sha256"] != whole["sha256"]

    def differs(change: Callable[[], object], of_some: bool) -> None:
        before, before_some = ask("tree", "/t"), ask("tree", "/t", pattern="*.crt")
        change()
        assert ask("tree", "/t") != before
        assert (ask("tree", "/t", pattern="*.crt") != before_some) is of_some

    differs(lambda: (tmp_path / "t/a.crt").write_text("A"), True)
    differs(lambda: (tmp_path / "t/a.crt").chmod(0o600), True)
    differs(lambda: (tmp_path / "t/sub").chmod(0o700), False)
    differs((tmp_path / "t/sub/c.key").unlink, False)
    differs(lambda: (tmp_path / "t/sub/b.crt").rename(tmp_path / "t/b.crt"), True)
    (tmp_path / "new").symlink_to("/usr")
    differs(lambda: (tmp_path / "new").rename(tmp_path / "t/link"), False)
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "t", moved, symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    os.mkfifo(moved / "fifo")
    shutil.copystat(tmp_path / "t/fifo", moved / "fifo")
    assert ask("tree", "/elsewhere") == ask("tree", "/t")
    (tmp_path / "door").symlink_to("t")
    assert ask("tree", "/door") == {"type": "link"}


def test_tree_ends_at_a_mount_without_touching_it(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "t/nas/hidden", "x")
    write(tmp_path / "proc/self/mountinfo", "2 1 0:2 / /t/nas rw - nfs4 s rw\n")
    before = ask("tree", "/t")
    assert before["count"] == 1
    (tmp_path / "t/nas").chmod(0o700)
    write(tmp_path / "t/nas/more", "y")
    assert ask("tree", "/t") == before


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", None),
        ("# BEGIN other\nx\n# END other\n", None),
        ("a\n# BEGIN g: p\nx\ny\n# END g: p\nb\n", sha("x\ny\n")),
        ("a\r\n# BEGIN g: p\r\nx\r\n# END g: p\r\n", sha("x\r\n")),
        ("# END g: p\n# BEGIN g: p\n# END g: p\n", sha("")),
        ("# BEGIN g: p\nx\n", "another"),
        ("# BEGIN g: p\nx\n# END g: p\n# BEGIN g: p\n# END g: p\n", "another"),
    ],
)
def test_block(text: str, digest: str | None, ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "f", text)
    value = ask("block", "/f", marker="g: p")
    if digest == "another":
        assert value["sha256"] != sha("x\n")
    else:
        assert value == (digest and {"sha256": digest, "mode": "0644", "owner": f"{os.getuid()}:{os.getgid()}"})


def test_two_blocks_of_one_file_under_names_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "f", "# BEGIN a\n1\n# END a\n# BEGIN b\n2\n# END b\n")
    specs = [("block", {"name": f"/f {mark}", "path": "/f", "marker": mark}) for mark in "ab"]
    values = observe(specs, Host(str(tmp_path)))
    assert [values[f"block /f {mark}"]["sha256"] for mark in "ab"] == [sha("1\n"), sha("2\n")]


def test_json_keys(ask: Ask, tmp_path: Path) -> None:
    long = ["x" * 300]
    write(tmp_path / "f", json.dumps({"b": {"y": 1, "x": [True]}, "auths": {"h:1": "pw"}, "long": long, "other": 1}))
    keys = ["b", ["auths", "h:1"], ["b", "y", "z"], "none", "long"]
    value = {"b": {"x": [True], "y": 1}, "auths.h:1": "pw", "b.y.z": None, "none": None}
    digest = "sha256:" + sha(json.dumps(long, separators=(",", ":")))
    assert ask("json_keys", "/f", keys=keys) == {**value, "long": digest}
    secret = ask("json_keys", "/f", keys=keys, secret=True)
    assert secret["auths.h:1"] == "sha256:" + salted('"pw"')
    assert secret["none"] is None
    write(tmp_path / "f", '{"a": "hunter2"')
    assert ask("json_keys", "/f", keys=["a"]) == {"error": "/f is not JSON"}
    assert ask("json_keys", "/none", keys=["a"]) is None


def test_some_keys_of_a_json_file_are_secret(ask: Ask, tmp_path: Path) -> None:
    there = {"driver": "splunk", "opts": {"token": "hunter2", "a": "b"}, "mirrors": ["https://u:hunter2@m"], "p": "x"}
    write(tmp_path / "f", json.dumps(there))
    keys = ["driver", ["opts", "token"], ["opts", "a"], "mirrors", "p"]
    value = ask("json_keys", "/f", keys=keys, secret=["p"])
    # Also one that somebody else has put there, and nobody declared to be secret.
    assert value == {
        "driver": "splunk",
        "opts.token": "sha256:" + salted('"hunter2"'),
        "opts.a": "b",
        "mirrors": "sha256:" + salted('["https://u:hunter2@m"]'),
        "p": "sha256:" + salted('"x"'),
    }
    assert ask("json_keys", "/f", keys=keys, secret=[])["p"] == "x"


def test_lines(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "f", "# ours\nssh-ed25519 A a@b \n\nssh-rsa B\n", 0o600)
    about = {"mode": "0600", "owner": f"{os.getuid()}:{os.getgid()}"}
    present = {"ssh-ed25519 A": False, "ssh-ed25519 A a@b": True, "ssh-rsa B": True}
    assert ask("lines", "/f", lines=list(present)) == {**about, "present": present}
    assert ask("lines", "/f", lines=["ssh-rsa B"], exclusive=True)["others"] == 1
    secret = ask("lines", "/f", lines=["ssh-rsa B"], exclusive=True, secret=True)
    assert "ssh-rsa" not in json.dumps(secret)
    assert secret["present"] == {salted("ssh-rsa B"): True}


def test_lines_that_are_alone(ask: Ask, tmp_path: Path) -> None:
    """The order is whoever's; a comment is none, whatever is in it; sshd reads a second file."""

    def others(*lines: str, beside: str = "/g") -> int:
        found: int = ask("lines", "/f", lines=lines, exclusive=True, beside=[beside])["others"]
        return found

    assert ask("lines", "/f", exclusive=True, beside=["/g"]) == {"others": 0}
    assert ask("lines", "/f", lines=["B"], exclusive=True) is None
    write(tmp_path / "f", "B\n\n# x\x0bjunk\n# y\x85junk\rjunk\nA\t\r\n")
    assert ask("lines", "/f", exclusive=True) == {"others": 2}
    assert (others("A", "B"), others("B", "A"), others("A")) == (0, 0, 1)
    write(tmp_path / "g", "# mine\nA\n")
    assert others("A", "B") == 1
    (tmp_path / "link").symlink_to("g")
    assert "is a link" in ask("lines", "/f", lines=["A", "B"], exclusive=True, beside=["/link"])["error"]


def test_contains(ask: Ask, tmp_path: Path) -> None:
    def pem(text: str, width: int = 64) -> str:
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])

    one, two, three = ("QUJD" * 40, "REVG" * 40, "R0hJ" * 40)
    write(tmp_path / "bundle", "# comment\n" + pem(one) + pem(two))
    write(tmp_path / "one", pem(one, 76))
    write(tmp_path / "both", pem(two) + pem(one))
    write(tmp_path / "mixed", pem(one) + pem(three))
    write(tmp_path / "empty", "")
    trusted = {"/one": True, "/both": True, "/mixed": False, "/empty": False, "/none": None}
    assert ask("contains", "/bundle", files=list(trusted)) == {"trusted": trusted}
    assert ask("contains", "/none", files=["/one"]) is None


def test_known_hosts(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "f", "@cert-authority a,b,c ssh-ed25519 A\nd ssh-ed25519 B\n@cert-authority\n")
    assert ask("known_hosts", "/f", hosts=["b", "c", "e"]) == {"others": ["", "a"]}
    assert ask("known_hosts", "/none", hosts=[]) is None
    write(tmp_path / "g", "@cert-authority gpu01,GPU02,gpu03 ssh-ed25519 A\n")
    assert ask("known_hosts", "/g", hosts=["GPU01", "gpu02"]) == {"others": ["gpu03"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_real_file_of_another_file_system_ends_the_tree(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "t/a", "a")
    (tmp_path / "t/m").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "t/m")], check=False).returncode:
        pytest.skip("cannot mount")
    try:
        before = ask("tree", "/t")
        write(tmp_path / "t/m/b", "b")
        assert ask("tree", "/t") == before
        assert before["count"] == 2
    finally:
        subprocess.run(["umount", str(tmp_path / "t/m")], check=True)
