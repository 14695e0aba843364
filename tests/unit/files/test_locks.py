"""Lock files of root's programs: an account that holds one keeps nobody waiting, is named, and cannot again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files.locks import close_directory, close_file

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another account")
HOLD = """
import ctypes, fcntl, os, sys
if {uid}:
    os.setgid({uid}); os.setuid({uid})
    ctypes.CDLL(None).prctl(4, 0)  # not dumpable: /proc/PID is root's then
file = open(sys.argv[1], {mode!r})
fcntl.{call}(file, fcntl.{lock})
print(flush=True)
sys.stdin.read()
"""
ADA = 64001
# What programs of root's lock, on this machine and on others.
LOCKED = [
    *("/run/xtables.lock", "/run/ufw.lock", "/run/mount/utab.lock", "/etc/.pwd.lock", "/var/lib/nfs/.etab.lock"),
    *("/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"),
    *("/var/cache/debconf/config.dat", "/var/cache/debconf/templates.dat", "/var/cache/debconf/passwords.dat"),
]
CLOSED = ("/run/ufw.lock", "/run/mount/", "/var/cache/debconf/")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of root's that accounts may enter, with a file that they may read."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    made = tmp_path / "debconf"
    made.mkdir(0o755)
    (made / "config.dat").write_text("answers")
    (made / "config.dat").chmod(0o644)
    return made


@contextlib.contextmanager
def holder(file: Path, uid: int = ADA, call: str = "flock", lock: str = "LOCK_EX", mode: str = "r") -> Iterator[int]:
    script = HOLD.format(uid=uid, call=call, lock=lock, mode=mode)
    with subprocess.Popen(
        [sys.executable, "-c", script, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == b"\n"
        yield process.pid
        process.stdin.close()


def can_lock(file: Path) -> bool:
    with file.open("r+") as ours:
        try:
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_lock_file_is_exchanged_and_its_holder_named(place: Path) -> None:
    file = place / "config.dat"
    with holder(file, call="lockf", lock="LOCK_SH") as pid:
        assert not can_lock(file)
        assert [str(one) for one in close_file(str(file))] == [
            f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()}) of account 'uid {ADA}' had locked {file}"
        ]
        assert can_lock(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.stat().st_ino
    assert close_file(str(file)) == []
    assert file.stat().st_ino == before


def test_a_directory_is_closed_and_what_was_locked_in_it_is_a_copy(place: Path) -> None:
    file = place / "config.dat"
    with holder(file) as pid, file.open("rb") as opened:
        found = close_directory(str(place), check=True)
        assert (found.was_open, [one.pid for one in found.held]) == (True, [pid])
        assert not can_lock(file)

        found = close_directory(str(place))
        assert (found.was_open, [one.account for one in found.held]) == (True, [f"uid {ADA}"])
        assert can_lock(file)
        # Who has only opened it, and locks it later, has the old one as well.
        assert os.fstat(opened.fileno()).st_ino != file.stat().st_ino
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("answers", 0o644)
    assert (stat.S_IMODE(place.stat().st_mode), os.listdir(place)) == (0o700, ["config.dat"])
    with pytest.raises(AssertionError), holder(file):
        pass
    assert not close_directory(str(place)).was_open


def test_a_file_that_a_process_of_roots_works_on_stays(place: Path) -> None:
    file = place / "config.dat"
    before = file.stat().st_ino
    with holder(file, uid=0):
        found = close_directory(str(place))
    assert (found.was_open, found.held, file.stat().st_ino) == (True, (), before)


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two file systems, each with a file of the same number."""
    folders = tmp_path / "ours", tmp_path / "theirs"
    mounted = []
    try:
        for folder in folders:
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "mode=0755", "locks", str(folder)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("no mounts here")
            mounted.append(folder)
            (folder / "config.dat").write_text("answers")
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o011)
        yield folders
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_lock_on_a_file_of_the_same_number_elsewhere_is_none(twins: tuple[Path, Path]) -> None:
    """An account makes files in memory until one has the number that it wants."""
    ours, theirs = (folder / "config.dat" for folder in twins)
    before = ours.stat().st_ino
    assert before == theirs.stat().st_ino
    # The one that a process of root's works on would be replaced beneath it.
    with holder(theirs), holder(ours, uid=0):
        assert close_directory(str(ours.parent)).held == ()
        assert ours.stat().st_ino == before


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    assert close_directory(str(tmp_path / "mount"), check=True).was_open
    assert not (tmp_path / "mount").exists()
    close_directory(str(tmp_path / "mount"))
    assert stat.S_IMODE((tmp_path / "mount").stat().st_mode) == 0o700
    with pytest.raises(GpusteadError, match="no/mount"):
        close_directory(str(tmp_path / "no/mount"))


@pytest.mark.parametrize("path", LOCKED)
def test_what_accounts_could_lock_on_this_machine_is_closed_by_a_role(path: str) -> None:
    if not Path(path).exists():
        pytest.skip("is not there")
    others = all(folder.stat().st_mode & 0o001 for folder in Path(path).parents) and Path(path).stat().st_mode & 0o004
    assert not others or path.startswith(CLOSED)
