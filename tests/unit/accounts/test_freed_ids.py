"""What would act as whoever gets the number of an account that went."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import freed_ids
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.freed_ids import Ids, clear, remove_jobs
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

FORMER, OTHER, LEFT = 61001, 61002, 61003
IDS = Ids(frozenset([FORMER]), frozenset([FORMER]), frozenset([(OTHER, LEFT)]), frozenset([(100_000, 10)]))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def program(path: Path, ids: tuple[int, int], mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    os.chown(path, *ids)
    path.chmod(mode)
    return path


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.lstat().st_mode):04o}"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    top = tmp_path / "host"
    (top / "var/tmp").mkdir(parents=True)
    (top / "var/tmp").chmod(0o1777)
    return top


@pytest.fixture
def reached() -> Iterator[Path]:
    """A directory that accounts can enter, where programs may be setuid."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        os.chmod(top, 0o755)
        if os.statvfs(top).f_flag & os.ST_NOSUID:
            pytest.skip("nothing is setuid there")
        yield Path(top)


# ids, mode before, mode after
PROGRAMS: dict[str, tuple[tuple[int, int], int, str]] = {
    "setuid": ((FORMER, FORMER), 0o4755, "0755"),
    "both": ((FORMER, FORMER), 0o6711, "0711"),
    "setgid of the group alone": ((OTHER, FORMER), 0o6755, "4755"),
    "another's": ((OTHER, OTHER), 0o6755, "6755"),
    "setgid of a group that its owner has left": ((OTHER, LEFT), 0o6755, "4755"),
    "of that group, of who is in it": ((0, LEFT), 0o2755, "2755"),
    "of a subordinate id": ((100_009, 100_000), 0o6755, "0755"),
    "of the one after these": ((100_010, 99_999), 0o6755, "6755"),
    "root's": ((0, 0), 0o4755, "4755"),
    "no program": ((FORMER, FORMER), 0o644, "0644"),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_programs(host: Path, case: str) -> None:
    ids, before, after = PROGRAMS[case]
    path = program(host / "var/tmp/x/tool\x1b[2J", ids, before)
    said = clear(IDS, str(host))
    assert mode(path) == after
    assert len(said) == (after != f"{before:04o}")
    assert all("var/tmp/x/tool\\x1b[2J" in words and words.isprintable() for words in said)
    assert clear(IDS, str(host)) == []
    assert clear(Ids(), "/nowhere") == []


def test_where_only_root_comes_nobody_starts_anything(host: Path) -> None:
    inner = program(host / "root/tool", (FORMER, FORMER), 0o4755)
    (host / "root").chmod(0o700)
    assert clear(IDS, str(host)) == []
    assert mode(inner) == "4755"
    for ids, bits in (((0, OTHER), 0o710), ((OTHER, 0), 0o700), ((0, 0), 0o701)):
        program(inner, (FORMER, FORMER), 0o4755)
        os.chown(host / "root", *ids)
        (host / "root").chmod(bits)
        assert len(clear(IDS, str(host))) == 1
        assert mode(inner) == "0755"


def test_links_are_not_followed_and_depth_hides_nothing(host: Path) -> None:
    elsewhere = program(host.parent / "elsewhere/tool", (FORMER, FORMER), 0o4755)
    (host / "var/tmp/link").symlink_to(elsewhere)
    (host / "var/tmp/directory").symlink_to(elsewhere.parent)
    at = os.open(host / "var/tmp", os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("tool", os.O_CREAT, dir_fd=at))
    os.chown("tool", FORMER, FORMER, dir_fd=at)
    os.chmod("tool", 0o4755, dir_fd=at)
    said = clear(IDS, str(host))
    assert len(said) == 1 and os.stat("tool", dir_fd=at).st_mode & 0o7777 == 0o755
    assert mode(elsewhere) == "4755"
    os.close(at)
    subprocess.run(["rm", "-rf", str(host)], check=True)


@pytest.fixture
def fuse() -> Iterator[Callable[[Path], None]]:
    """Mounts an account's own file system, as fusermount does; it never answers."""
    libc, mounted, opened = ctypes.CDLL(None), list[Path](), list[int]()

    def mount(path: Path) -> None:
        try:
            opened.append(os.open("/dev/fuse", os.O_RDWR))
        except OSError:
            pytest.skip("no FUSE here")
        options = f"fd={opened[-1]},rootmode=40000,user_id={OTHER},group_id={OTHER}"
        if libc.mount(b"own", os.fsencode(path), b"fuse.own", 2 | 4, options.encode()):
            pytest.skip("no mounts here")
        mounted.append(path)

    yield mount
    for path in reversed(mounted):
        libc.umount2(os.fsencode(path), 2)
    for file in opened:
        os.close(file)


def test_what_an_account_has_mounted_hides_nothing(host: Path, fuse: Callable[[Path], None]) -> None:
    """Who helped the former holder takes it away afterwards, and starts what lies beneath."""
    hidden = program(host / "home/carol/hidden/tool", (FORMER, FORMER), 0o4755)
    beneath = os.open(hidden, os.O_PATH)
    fuse(hidden.parent)
    fuse(hidden.parent.parent)
    assert len(clear(IDS, str(host))) == 1
    assert stat.S_IMODE(os.fstat(beneath).st_mode) == 0o755
    os.close(beneath)
    with pytest.raises(PermissionError):
        hidden.stat()  # the account's mounts are there as before


KEEP = """
import array, os, socket, sys
os.setgid({uid}); os.setuid({uid})
file = os.open({path!r}, os.O_RDONLY)
one, other = socket.socketpair()
if {sent}:
    socket.send_fds(one, [b"x"], [file])
    os.close(file)
print(flush=True)
sys.stdin.readline()
if {sent}:
    socket.recv_fds(other, 1, 1)
    print(flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def keeper(path: Path, sent: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A process of another account that has the program open, without a name, or on its way in a socket."""
    command = [sys.executable, "-c", KEEP.format(uid=OTHER, path=str(path), sent=sent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        path.unlink()
        yield process
        process.stdin.close()


def test_a_program_without_a_name_that_somebody_has_open(host: Path, reached: Path) -> None:
    path = program(reached / "tool", (FORMER, FORMER), 0o4755)
    beneath = os.open(path, os.O_PATH)
    with keeper(path, sent=False):
        (said,) = clear(IDS, str(host))
    assert f"(deleted): a program of {FORMER}:{FORMER}, mode was 4755" in said
    assert stat.S_IMODE(os.fstat(beneath).st_mode) == 0o755
    os.close(beneath)


def test_files_on_their_way_in_a_socket_keep_an_id_from_being_handed_on(host: Path, reached: Path) -> None:
    path = program(reached / "tool", (FORMER, FORMER), 0o4755)
    with keeper(path, sent=True) as process:
        with pytest.raises(GpusteadError, match=f"on their way in sockets of processes .*{process.pid}"):
            clear(IDS, str(host))
        assert process.stdin and process.stdout
        process.stdin.write(b"\n")
        process.stdout.readline()
        assert len(clear(IDS, str(host))) == 1


def test_of_many_some_are_named(host: Path) -> None:
    for number in range(30):
        program(host / f"var/tmp/{number}", (FORMER, FORMER), 0o4755)
    said = clear(IDS, str(host))
    assert len(said) == 21 and said[-1] == f"10 more below {host}"


def test_what_cannot_be_done_or_takes_too_long_is_an_error(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(host / "var/tmp/tool", (FORMER, FORMER), 0o4755)
    monkeypatch.setattr(os, "chmod", _refuse)
    with pytest.raises(GpusteadError, match=r"var/tmp/tool cannot be looked at, or kept from being setuid"):
        clear(IDS, str(host))
    monkeypatch.setattr(freed_ids, "_SECONDS", 0)
    with pytest.raises(GpusteadError, match="did not answer"):
        clear(IDS, str(host))


def _refuse(path: str, mode: int) -> None:
    raise PermissionError(1, "Operation not permitted", path)


def test_jobs(host: Path) -> None:
    jobs = host / "var/spool/cron/atjobs"
    mine, others = program(jobs / "a1", (FORMER, 0), 0o700), program(jobs / "a2", (OTHER, 0), 0o700)
    tabs = host / "var/spool/cron/crontabs"
    tab, another = program(tabs / "ada", (FORMER, 0), 0o600), program(tabs / "bob", (OTHER, 0), 0o600)
    assert clear(IDS, str(host)) == [f"{job}: a job of uid {FORMER}, removed" for job in (mine, tab)]
    assert (mine.exists(), others.exists(), tab.exists(), another.exists()) == (False, True, False, True)
    program(mine, (FORMER, 0), 0o700)
    program(tab, (0, 0), 0o600)
    assert len(remove_jobs("ada", FORMER, str(host))) == 2
    assert (mine.exists(), others.exists(), tab.exists(), another.exists()) == (False, True, False, True)
    assert remove_jobs("ada", FORMER, str(host)) == []
