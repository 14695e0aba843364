"""as_account: real children with the ids of others, and what an account can lay in their way."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ADA = Identity(61500, 61600, (61700,))
BOB = Identity(61501, 61501)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory of ada's that others may pass."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    top = tmp_path / "ada"
    top.mkdir()
    os.chown(top, ADA.uid, ADA.gid)
    yield top


def theirs(path: Path, content: str = "mine\n") -> Path:
    path.write_text(content)
    os.chown(path, ADA.uid, ADA.gid)
    return path


def status() -> dict[str, str]:
    lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: value.strip() for name, value in lines}


def test_the_child_is_the_account_and_nothing_more() -> None:
    said = as_account.run(lambda: [status(), os.getgroups(), resource.getrlimit(resource.RLIMIT_CORE)], ADA)
    assert set(said[0]["Uid"].split()) == {str(ADA.uid)}
    assert set(said[0]["Gid"].split()) == {str(ADA.gid)}
    assert said[0]["CapEff"] == said[0]["CapPrm"] == "0" * 16
    assert said[0]["NoNewPrivs"] == "1"
    assert said[1:] == [[61700], [0, 0]]


def test_another_process_of_the_account_cannot_look_into_the_child() -> None:
    def work() -> int:
        look = ["/bin/cat", f"/proc/{os.getpid()}/environ"]
        return subprocess.run(look, check=False, capture_output=True).returncode

    assert as_account.run(work, ADA) != 0
    assert as_account.run(lambda: subprocess.run(["/bin/cat", "/proc/self/environ"], check=False).returncode, ADA) == 0


def nested() -> Any:
    value: Any = []
    for _ in range(200_000):
        value = [value]
    return value


def fails() -> None:
    raise OSError(28, "No space left on device", "/x")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: time.sleep(60), "did not answer uid 61500 in time"),
        (lambda: "x" * (1 << 21), "holds more than 1048576 bytes"),
        (lambda: len(bytearray(1 << 30)), "more memory or depth than allowed"),
        (nested, "depth|was killed"),
        (lambda: os.kill(os.getpid(), 9), "was killed"),
        (lambda: os._exit(0), "was killed"),
        (lambda: os.environ["NO"], "KeyError"),
        (object, "TypeError|was killed"),
        (fails, "No space left on device .*full: make room"),
    ],
)
def test_every_bad_end_is_the_domain_error(work: Callable[[], Any], message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(GpusteadError, match=message):
        as_account.run(work, ADA, timeout=2)
    assert time.monotonic() - begun < 10


def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    def work() -> None:
        if os.fork() == 0:
            time.sleep(300)
        time.sleep(300)

    with pytest.raises(GpusteadError):
        as_account.run(work, ADA, timeout=1)
    assert not [p for p in Path("/proc").glob("[0-9]*") if _uid(p) == ADA.uid]


def _uid(process: Path) -> int:
    """-1 for a zombie, or one that has ended."""
    try:
        text = (process / "status").read_text()
    except OSError:
        return -1
    return -1 if "State:\tZ" in text else int(text.partition("Uid:")[2].split()[0])


def test_what_the_account_may_not_is_a_permission_error(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="shadow"):
        as_account.run(lambda: Path("/etc/shadow").read_text(), ADA)


def test_a_file_of_the_accounts_is_read(home: Path) -> None:
    (home / "a").mkdir()
    theirs(home / "a/file", "text\n")
    assert as_account.read(str(home), "a/file", ADA, owner=ADA.uid) == b"text\n"
    assert as_account.read(str(home), "a/none", ADA) is None
    assert as_account.read(str(home), "b/none", ADA) is None


def secret(home: Path) -> Path:
    other = home.parent / "bob"
    other.mkdir()
    (other / "file").write_text("secret")
    return other


@pytest.mark.parametrize(
    ("name", "lay", "message"),
    [
        ("file", lambda home: (home / "file").symlink_to("/etc/shadow"), "file is a symbolic link"),
        ("file", lambda home: (home / "file").symlink_to("file"), "file is a symbolic link"),
        ("a/file", lambda home: (home / "a").symlink_to(secret(home)), "a is a symbolic link"),
        ("a/file", lambda home: theirs(home / "a"), "a is a symbolic link or no directory"),
        ("file", lambda home: os.mkfifo(home / "file", 0o666), "no regular file"),
        ("file", lambda home: (home / "file").mkdir(), "no regular file"),
        ("file", lambda home: os.mknod(home / "file", 0o666 | stat.S_IFCHR, os.makedev(1, 5)), "no regular file"),
        ("file", lambda home: os.link(theirs(home / "one"), home / "file"), "2 names"),
        ("file", lambda home: (home / "file").write_text("root's"), "belongs to uid 0"),
        ("file", lambda home: theirs(home / "file", "x" * 4097), "longer than 4096 bytes"),
        ("../bob/file", secret, "without '..'"),
        ("/etc/passwd", lambda home: None, "below the directory"),
    ],
)
def test_nothing_else_is_read(home: Path, name: str, lay: Callable[[Path], object], message: str) -> None:
    lay(home)
    begun = time.monotonic()
    with pytest.raises(GpusteadError, match=message) as caught:
        as_account.read(str(home), name, ADA, size=4096, owner=ADA.uid)
    assert time.monotonic() - begun < 5
    assert name.rpartition("/")[2] in str(caught.value) or "symbolic" in str(caught.value)


def test_what_only_others_may_read_is_the_domain_error(home: Path) -> None:
    theirs(home / "file").chmod(0o600)
    with pytest.raises(GpusteadError, match="cannot be read by uid 61501"):
        as_account.read(str(home), "file", BOB)


@pytest.mark.parametrize(
    "text", ["", "[" * 200_000, "{", "\0", '{"a": 1e}', "[" * 900 + "]" * 899, "[" * 40 + "]" * 40]
)
def test_damaged_json_is_the_domain_error(home: Path, text: str) -> None:
    theirs(home / "file", text)
    with pytest.raises(GpusteadError, match="file"):
        as_account.read_json(str(home), "file", ADA)


def test_json_that_is_not_utf8_is_the_domain_error(home: Path) -> None:
    theirs(home / "file").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(GpusteadError, match="file"):
        as_account.read_json(str(home), "file", ADA)


def test_json_is_read(home: Path) -> None:
    theirs(home / "file", json.dumps({"a": [1, None, "ü"]}))
    assert as_account.read_json(str(home), "file", ADA) == {"a": [1, None, "ü"]}
    assert as_account.read_json(str(home), "none", ADA) is None


def test_a_file_is_replaced_as_a_whole_and_leaves_nothing(home: Path) -> None:
    def work() -> None:
        with as_account.parent(str(home), "sub/file") as (directory, name):
            as_account.put(directory, name, b"new\n", 0o640)

    os.mkdir(home / "sub")
    os.chown(home / "sub", ADA.uid, ADA.gid)
    (home / "sub/file").symlink_to("/etc/hostname")
    before = Path("/etc/hostname").read_bytes()
    as_account.run(work, ADA)
    assert (home / "sub/file").read_bytes() == b"new\n"
    assert stat.S_IMODE((home / "sub/file").lstat().st_mode) == 0o640
    assert (home / "sub/file").lstat().st_uid == ADA.uid
    assert Path("/etc/hostname").read_bytes() == before
    assert os.listdir(home / "sub") == ["file"]


def test_an_exclusive_file_replaces_nothing_and_root_gives_away_what_it_writes(home: Path) -> None:
    with as_account.parent(str(home), "file") as (directory, name):
        as_account.put(directory, name, b"one", 0o600, owner=(ADA.uid, ADA.gid), exclusive=True)
        with pytest.raises(FileExistsError):
            as_account.put(directory, name, b"two", 0o600, exclusive=True)
    assert (home / "file").read_bytes() == b"one"
    assert ((home / "file").stat().st_uid, (home / "file").stat().st_nlink) == (ADA.uid, 1)
    assert "file" in os.listdir(home) and not any(name.endswith(".tmp") for name in os.listdir(home))


def test_no_descriptor_and_no_child_stays(home: Path) -> None:
    theirs(home / "file")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("file", "none", "file/x"):
        try:
            as_account.read(str(home), name, ADA)
        except GpusteadError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, ü", "plain, ü"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff", r"\udcff"),
        ("x" * 500, "x" * 399 + "…"),
        (7, "7"),
    ],
)
def test_what_others_wrote_is_shown_without_its_effects(text: object, expected: str) -> None:
    assert shown(text) == expected
