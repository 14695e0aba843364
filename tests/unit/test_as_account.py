"""as_account: real children with the ids of others, and what an account can lay in their way."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ROOT = Path(__file__).parents[2]
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
    for _attempt in range(100):  # it is killed, not waited for
        if not [p for p in Path("/proc").glob("[0-9]*") if _uid(p) == ADA.uid]:
            break
        time.sleep(0.05)
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


def test_a_lease_holds_nobody_up(home: Path) -> None:
    """Whoever owns a file can have who opens it wait, for 45 seconds each time."""
    file = os.open(theirs(home / "file"), os.O_RDWR)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        begun = time.monotonic()
        with pytest.raises(GpusteadError, match="has a lease on it"):
            as_account.read(str(home), "file", ADA, owner=ADA.uid)
        assert time.monotonic() - begun < 5
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, before)


def test_what_only_others_may_read_is_the_domain_error(home: Path) -> None:
    theirs(home / "file").chmod(0o600)
    with pytest.raises(GpusteadError, match="cannot be read by uid 61501"):
        as_account.read(str(home), "file", BOB)


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


@pytest.mark.parametrize("name", ["x" * 255, "€" * 85, "\udcff" * 255])
def test_a_file_of_a_long_name_is_replaced_too(home: Path, name: str) -> None:
    def work() -> None:
        with as_account.parent(str(home), name) as (directory, last):
            as_account.put(directory, last, b"new\n", 0o640)

    as_account.run(work, ADA)
    assert os.listdir(home) == [name]


def children() -> set[str]:
    """Of this process: other tests may have left some, too."""
    return {
        child for thread in Path("/proc/self/task").iterdir() for child in (thread / "children").read_text().split()
    }


def test_no_descriptor_and_no_child_stays(home: Path) -> None:
    theirs(home / "file")
    before, others = len(os.listdir("/proc/self/fd")), children()
    for name in ("file", "none", "file/x"):
        try:
            as_account.read(str(home), name, ADA)
        except GpusteadError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


@pytest.mark.parametrize("number", [-1, (1 << 32) - 1, 1 << 32, -2])
@pytest.mark.parametrize("place", ["uid", "gid", "groups"])
def test_an_id_that_the_kernel_takes_for_as_it_is_is_refused(number: int, place: str) -> None:
    """Else the work would be root's."""
    ids: dict[str, Any] = {"uid": ADA.uid, "gid": ADA.gid, place: (number,) if place == "groups" else number}
    with pytest.raises(GpusteadError, match=f"id {number} of"):
        as_account.run(os.getresuid, Identity(**ids))


def test_that_we_cannot_become_the_account_is_not_that_it_may_not() -> None:
    """Who asked would try as root: here it is bob that asks for ada."""

    def work() -> str:
        try:
            as_account.run(os.getuid, ADA)
        except PermissionError:
            return "denied"
        except GpusteadError as error:
            return str(error)
        return "done"

    assert "this runs as uid 61501" in as_account.run(work, BOB)


def test_where_no_process_can_be_started_it_is_said() -> None:
    def work() -> str:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        before = len(os.listdir("/proc/self/fd"))
        try:
            as_account.run(os.getuid, ADA)
        except GpusteadError as error:
            return f"{error} {len(os.listdir('/proc/self/fd')) - before}"
        return "done"

    assert as_account.run(work, ADA).startswith("no process can be started")
    assert as_account.run(work, ADA).endswith(" 0")


def test_an_answer_is_taken_though_somebody_else_holds_the_pipe() -> None:
    """As a child does that another thread has forked meanwhile."""

    def work() -> int:
        if os.fork() == 0:
            time.sleep(60)
        return 1

    begun = time.monotonic()
    assert as_account.run(work, ADA) == 1
    assert time.monotonic() - begun < 10


def test_many_open_files_and_children_that_nobody_waits_for_are_no_obstacle(home: Path) -> None:
    theirs(home / "file")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert as_account.read(str(home), "file", ADA) == b"mine\n"
    finally:
        signal.signal(signal.SIGCHLD, former)
        for file in opened:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_child_ends_with_who_asked() -> None:
    reader, writer = os.pipe()

    def tell_and_wait() -> None:
        os.write(writer, str(os.getpid()).encode())
        time.sleep(60)

    asks = os.fork()
    if asks == 0:
        try:
            as_account.run(tell_and_wait, ADA)
        finally:
            os._exit(0)
    os.close(writer)
    child = Path(f"/proc/{os.read(reader, 100).decode()}")
    os.kill(asks, signal.SIGKILL)
    os.waitpid(asks, 0)
    for _attempt in range(100):
        if _uid(child) != ADA.uid:
            break
        time.sleep(0.05)
    assert _uid(child) != ADA.uid


def test_the_child_has_no_terminal_and_no_stdio_of_ours() -> None:
    def work() -> list[object]:
        seen = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
        return [os.getsid(0) == os.getpid(), *seen]

    assert as_account.run(work, ADA) == [True, "/dev/null", "/dev/null", "/dev/null"]


# What the child does in a module on a host, where an import would be from a file that the account may not read.
CLOSED = """
import os, sys
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

class Closed:
    def find_spec(self, name, *_):
        os.write(9, f"{name}\\n".encode())

def put():
    with as_account.parent(top, "put") as (directory, name):
        as_account.put(directory, name, b"x", 0o600)

def fails(error):
    raise error

def escapes():
    return shown("\\x1b \\udcff \\n \\u202e")

def says():
    raise GpusteadError("\\x1b", "ü", "\\udcff")

top = sys.argv[1]
become = as_account.become

def become_and_close(*given):
    sys.meta_path.insert(0, Closed())
    become(*given)

as_account.become = become_and_close
who = as_account.Identity(61500, 61600)
works = [put, escapes, says, lambda: fails(ValueError("\\x1b")), lambda: fails(OSError(5, "ü", b"\\xff")), object]
works += [lambda: b"\\xff".decode(), lambda: "\\udcff".encode(), lambda: fails(PermissionError(13, "no", "/x"))]
for work in works:
    try:
        as_account.run(work, who)
    except (GpusteadError, PermissionError):
        pass
for name in sorted(os.listdir(top)):
    try:
        as_account.read(top, name, who)
    except GpusteadError:
        pass
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_child_imports_nothing(home: Path, tmp_path: Path, locale: str) -> None:
    for number, text in enumerate(("x", "{", '"\\ud800"', "[" * 100_000, '{"a": 1e999}', '"\\u00fc"')):
        theirs(home / str(number), text)
    for number, data in enumerate((b"\xff", b"\xff\0", b"\0\0\0x", b"\xff\xfe1\0", b"x\0\0\0")):
        theirs(home / f"bytes{number}").write_bytes(data)
    (home / "link").symlink_to("/etc/passwd")
    environment = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": ".dev"}
    script = tmp_path / "script.py"
    script.write_text(CLOSED, encoding="utf-8")
    with open(tmp_path / "imported", "w+") as imported:
        command = [sys.executable, str(script), str(home)]

        def nine() -> None:
            os.dup2(imported.fileno(), 9)

        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            preexec_fn=nine,
            close_fds=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        imported.seek(0)
        assert imported.read() == ""


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
