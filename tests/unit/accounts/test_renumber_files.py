"""Giving the files of a renumbered account to its new ids, while their owner does with them what they like."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import renumber_files as accounts_files
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Renumbering
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.renumber_files import renumber_files
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

OLD, NEW, OTHER = 61001, 61500, 61002
RENUMBERING = Renumbering("ada", (OLD,), (OLD,), NEW, NEW, True, "/home/ada", ("/home",))
LIBC = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    top = tmp_path / "home" / "ada"
    top.mkdir(parents=True)
    os.chown(top, OLD, OLD)
    return top


@pytest.fixture
def deep_home() -> Iterator[Path]:
    """In memory, where thousands of levels are quickly made; pytest's own removal would recurse."""
    top = Path(tempfile.mkdtemp(dir="/dev/shm"))
    os.chown(top, OLD, OLD)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)


def put(path: Path, ids: tuple[int, int] = (OLD, OLD), mode: int = 0o644) -> Path:
    path.write_text("x")
    os.chown(path, *ids)
    path.chmod(mode)
    return path


def seen(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_uid, status.st_gid, f"{stat.S_IMODE(status.st_mode):04o}"


def deep(top: Path, levels: int, name: str, beside: int) -> None:
    """Directories in each other, each with a file and `beside` others."""
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        for other in range(beside):
            os.mkdir(f"beside{other}", dir_fd=at)
            os.chown(f"beside{other}", OLD, OLD, dir_fd=at)
        os.mkdir(name, dir_fd=at)
        os.chown(name, OLD, OLD, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.chown("file", OLD, OLD, dir_fd=at)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def owners(top: Path, levels: int, name: str) -> set[int]:
    found = set()
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        for entry in os.listdir(at):
            found.add(os.stat(entry, dir_fd=at, follow_symlinks=False).st_uid)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    return found


@pytest.mark.parametrize(("levels", "name", "beside"), [(1_500, "d", 2), (10_000, "d", 0), (2_000, "n" * 250, 1)])
def test_any_depth_is_completed_with_few_descriptors(deep_home: Path, levels: int, name: str, beside: int) -> None:
    deep(deep_home, levels, name, beside)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    before = os.listdir("/proc/self/fd")
    try:
        renumber_files(str(deep_home), RENUMBERING)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert owners(deep_home, levels, name) == {NEW}
    assert os.listdir("/proc/self/fd") == before


# ids and mode before: ids and mode after
BITS: dict[str, tuple[tuple[int, int], int, tuple[int, int, str]]] = {
    "the account's own program": ((OLD, OLD), 0o6755, (NEW, NEW, "6755")),
    "that others may write": ((OLD, OLD), 0o4777, (NEW, NEW, "0777")),
    "that its group may write": ((OLD, OLD), 0o4770, (NEW, NEW, "0770")),
    "of a group that root gave it": ((OLD, OTHER), 0o6755, (NEW, OTHER, "4755")),
    "root's, of the account's group": ((0, OLD), 0o4755, (0, NEW, "0755")),
    "root's": ((0, 0), 0o4755, (0, 0, "4755")),
    "another account's": ((OTHER, OTHER), 0o6755, (OTHER, OTHER, "6755")),
}


@pytest.mark.parametrize("case", BITS)
def test_setuid_is_given_to_nobody_else(home: Path, case: str) -> None:
    ids, mode, expected = BITS[case]
    program = put(home / "program", ids, mode)
    renumber_files(str(home), RENUMBERING)
    assert seen(program) == expected


def test_a_capability_goes_to_nobody(home: Path) -> None:
    program = put(home / "program", mode=0o755)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(program, "security.capability", capability)
    renumber_files(str(home), RENUMBERING)
    assert seen(program) == (NEW, NEW, "0755")
    assert "security.capability" not in os.listxattr(program)


def test_what_was_opened_is_what_is_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at an entry and the change another one is put in its place."""
    victim = put(home.parent / "victim", (OTHER, OTHER), 0o4755)
    mine = put(home / "entry")
    genuine = accounts_files.give

    def exchanged(place: int, ids: tuple[int, int]) -> None:
        if stat.S_ISREG(os.fstat(place).st_mode):
            mine.rename(home.parent / "mine")
            os.link(victim, home / "entry")
        genuine(place, ids)

    monkeypatch.setattr(accounts_files, "give", exchanged)
    renumber_files(str(home), RENUMBERING)
    assert seen(victim) == (OTHER, OTHER, "4755")
    assert seen(home.parent / "mine") == (NEW, NEW, "0644")


def test_a_second_name_of_another_accounts_file_changes_nothing(home: Path) -> None:
    victim = put(home.parent / "victim", (OTHER, OTHER), 0o4755)
    os.link(victim, home / "mine")
    shadow = put(home.parent / "shadow", (0, 0), 0o600)
    os.link(shadow, home / "shadow")
    renumber_files(str(home), RENUMBERING)
    assert seen(victim) == (OTHER, OTHER, "4755")
    assert seen(shadow) == (0, 0, "0600")


def test_links_fifos_devices_and_odd_names_are_changed_themselves(home: Path) -> None:
    outside = put(home.parent / "outside")
    (home / "link").symlink_to(outside)
    (home / "linkdir").symlink_to(home.parent)
    os.mkfifo(home / "fifo")
    os.mknod(home / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    odd = os.fsdecode(b"\xff\n\x1b[31m")
    put(home / odd)
    entries = [home / name for name in ("link", "linkdir", "fifo", "zero", odd)]
    for entry in entries:
        os.lchown(entry, OLD, OLD)
    renumber_files(str(home), RENUMBERING)
    assert {seen(entry)[:2] for entry in entries} == {(NEW, NEW)}
    assert seen(outside)[:2] == (OLD, OLD)


def test_mounts_below_are_not_crossed(home: Path) -> None:
    elsewhere = home.parent / "elsewhere"
    elsewhere.mkdir()
    (home / "directory").mkdir()
    put(home / "file")
    put(elsewhere / "data")
    for source, target in ((elsewhere, home / "directory"), (elsewhere / "data", home / "file")):
        if subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False).returncode:
            pytest.skip("no mounts here")
    try:
        renumber_files(str(home), RENUMBERING)
        assert seen(elsewhere / "data")[:2] == (OLD, OLD)
    finally:
        subprocess.run(["umount", str(home / "directory")], check=True)
        subprocess.run(["umount", str(home / "file")], check=True)


def test_a_file_system_of_another_accounts_on_a_file_is_passed_by(home: Path) -> None:
    """It answers not even root (FUSE)."""
    put(home / "mine")
    theirs = put(home / "theirs", (OTHER, OTHER))
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("no FUSE here")
    options = f"fd={fuse},rootmode=100000,user_id={OTHER},group_id={OTHER}"
    try:
        if LIBC.mount(b"theirs", os.fsencode(theirs), b"fuse.theirs", 2 | 4, options.encode()):
            pytest.skip("no mounts here")
        with pytest.raises(OSError, match="denied"):
            theirs.stat()
        renumber_files(str(home), RENUMBERING)
    finally:
        subprocess.run(["umount", "-l", str(theirs)], capture_output=True, check=False)
        os.close(fuse)
    assert seen(home / "mine")[:2] == (NEW, NEW)


@pytest.mark.parametrize(("owner", "stops"), [(OTHER, False), (OLD, True)])
def test_directories_that_others_move_stop_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: int, stops: bool
) -> None:
    monkeypatch.setattr(accounts_files, "_MOST", 0)  # beyond the levels whose descriptors are kept
    top = home / "a"
    top.joinpath(*["0"] * 80, "last").mkdir(parents=True)
    for directory, _, _ in os.walk(top):
        os.chown(directory, owner, owner)
    put(home / "mine")
    carried, taken = top.joinpath(*["0"] * 70), home / "taken"
    genuine = accounts_files._Renumber.visit

    def visit(walk: accounts_files._Renumber, place: int, info: os.stat_result, name: str) -> None:
        if walk.stack[-1].name == "last":
            carried.rename(taken)
        elif len(walk.stack) == 1 and taken.exists():
            taken.rename(carried)
        genuine(walk, place, info, name)

    monkeypatch.setattr(accounts_files._Renumber, "visit", visit)
    with pytest.raises(GpusteadError, match="are moved or made") if stops else contextlib.nullcontext():
        renumber_files(str(home), RENUMBERING)
    assert seen(home / "mine")[:2] == (NEW, NEW)


@pytest.mark.parametrize(("owner", "stops"), [(OTHER, False), (NEW, True)])
def test_who_makes_directories_without_end_keeps_nobody_waiting(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: int, stops: bool
) -> None:
    """Each that is entered has one more in it, by whoever is faster than the walk."""
    monkeypatch.setattr(accounts_files, "_CHANGING", 50)
    endless = home / "endless"
    endless.mkdir()
    os.chown(endless, owner, owner)
    put(home / "mine")
    genuine, made = accounts_files._Renumber.visit, 0

    def visit(walk: accounts_files._Renumber, place: int, info: os.stat_result, name: str) -> None:
        nonlocal made
        if not name and info.st_uid == owner and made < 1_000:
            made += 1
            os.mkdir("d", dir_fd=place)
            os.chown("d", owner, owner, dir_fd=place)
        genuine(walk, place, info, name)

    monkeypatch.setattr(accounts_files._Renumber, "visit", visit)
    with pytest.raises(GpusteadError, match="are moved or made") if stops else contextlib.nullcontext():
        renumber_files(str(home), RENUMBERING)
    assert 50 < made < 100
    assert seen(home / "mine")[:2] == (NEW, NEW)


def test_what_cannot_be_changed_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "way").mkdir()
    put(home / "way" / "stuck\x1b[2J")

    def refused(place: int, ids: tuple[int, int]) -> None:
        if stat.S_ISREG(os.fstat(place).st_mode):
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(accounts_files, "give", refused)
    with pytest.raises(GpusteadError) as caught:
        renumber_files(str(home), RENUMBERING)
    assert f"{home}/way/stuck\\x1b[2J cannot be given to uid {NEW} of 'ada'" in str(caught.value)


def test_what_is_there_twice_or_not_at_all(home: Path) -> None:
    renumber_files(str(home / "missing"), RENUMBERING)
    put(home / "file")
    renumber_files(str(home), RENUMBERING)
    renumber_files(str(home), RENUMBERING)
    assert seen(home / "file")[:2] == (NEW, NEW)
    with pytest.raises(GpusteadError, match="a directory"):
        renumber_files(str(home / "file"), RENUMBERING)


def swaps(home: Path, outside: Path) -> list[Callable[[], None]]:
    """What an attacker does again and again."""

    def exchange() -> None:
        os.rename(home / "a", home / "b")
        os.symlink(outside, home / "a")
        os.unlink(home / "a")
        os.rename(home / "b", home / "a")

    def carry_off() -> None:
        os.rename(home / "a/0/0", outside / "taken")
        os.rename(outside / "taken", home / "a/0/0")

    def link() -> None:
        os.link(outside / "program", home / "a/program")
        os.unlink(home / "a/program")

    return [exchange, carry_off, link]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_attacker_meanwhile_changes_nothing_outside(home: Path, which: int) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    program = put(outside / "program", (OTHER, OTHER), 0o4755)
    top = home / "a"
    for _ in range(90):  # beyond the levels whose descriptors are kept
        top = top / "0"
    top.mkdir(parents=True)
    for directory, _, _ in os.walk(home):
        os.chown(directory, OLD, OLD)
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                swaps(home, outside)[which]()

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for round_ in range(40):
            old, new = (OLD, NEW) if round_ % 2 == 0 else (NEW, OLD)
            with contextlib.suppress(GpusteadError):
                renumber_files(str(home), replace(RENUMBERING, old_uids=(old,), old_gids=(old,), uid=new, gid=new))
    finally:
        stop.set()
        attacker.join()
    assert seen(program) == (OTHER, OTHER, "4755")
    assert seen(outside)[:2] == (0, 0)
    shutil.rmtree(outside)
