# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which copies of a file stay, and what beside it is nobody's to remove."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.files.leftovers import (
    FileBeside,
    find,
    remove,
    superfluous,
)

NOW = 1_800_000_000.0
COPIES = [f"fstab.{9000 - day}.2026-11-{day:02}@23:45:18~" for day in range(1, 8)]
BAKS = [f"daemon.json.2026-11-{day:02}@23:45:18.bak" for day in range(1, 4)]
OTHERS = [
    "fstab",
    "fstab.bak",
    "fstab.orig~",
    "fstab.d",
    "fstab.12.2026-11-01@23:45:18~.mine",
    "xfstab.12.2026-11-01@23:45:18~",
    ".ansible_tmpabcfstab",  # written just now
]
CASES: dict[str, tuple[str, list[str], int, list[str]]] = {
    "the oldest go, by their date and not by their process": ("fstab", COPIES, 5, sorted(COPIES[:2])),
    "few": ("fstab", COPIES[:5], 5, []),
    "none stay": ("fstab", COPIES, 0, sorted(COPIES)),
    "ours": ("daemon.json", BAKS, 2, BAKS[:1]),
    "of another file": ("after.rules", COPIES + BAKS, 0, []),
    "others": ("fstab", OTHERS, 0, []),
}


@pytest.mark.parametrize(("file", "names", "keep", "gone"), CASES.values(), ids=CASES)
def test_what_may_go(file: str, names: list[str], keep: int, gone: list[str]) -> None:
    assert superfluous(file, [FileBeside(name, NOW) for name in names], keep, NOW) == gone


def test_a_temporary_file_goes_after_a_day() -> None:
    entries = [FileBeside(".ansible_tmpx1fstab", NOW - 86401), FileBeside(".ansible_tmpx2fstab", NOW - 86000)]
    assert superfluous("fstab", entries, 5, NOW) == [".ansible_tmpx1fstab"]


LONG = "ä" * 120  # of such a name, the first 100 letters stand in that of the temporary file
OURS = {
    ".fstab.0123456789ab.tmp": "fstab",
    ".fstab.2026-11-28@23:45:18.bak.0123456789ab.tmp": "fstab",  # of a copy
    f".{LONG[:100]}.0123456789ab.tmp": LONG,
}
NOT_OURS = {
    ".fstab.0123456789AB.tmp": "fstab",
    ".fstab.0123456789ab.tmp.swp": "fstab",
    ".fstab.mine.0123456789ab.tmp": "fstab",
    "fstab.0123456789ab.tmp": "fstab",
    ".other.0123456789ab.tmp": "fstab",
}


@pytest.mark.parametrize(("name", "file"), {**OURS, **NOT_OURS}.items())
def test_our_own_temporary_file_goes_after_a_minute(name: str, file: str) -> None:
    """One may hold a password."""
    assert superfluous(file, [FileBeside(name, NOW - 61)], 5, NOW) == [name] * (name in OURS)
    assert superfluous(file, [FileBeside(name, NOW - 59)], 5, NOW) == []


def test_the_temporary_file_of_a_killed_run_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is named by what makes it."""
    for name in ("cache.conf", LONG):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, "fsync", lambda _file: os.kill(os.getpid(), signal.SIGKILL))
            as_account.put(os.open(tmp_path, os.O_RDONLY), name, b"password", 0o600)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        (left,) = tmp_path.iterdir()
        assert list(find([str(tmp_path / name)], None, left.stat().st_mtime + 61)) == [left]
        left.unlink()


def test_all_copies_stay_where_none_is_to_go() -> None:
    assert superfluous("fstab", [FileBeside(name, NOW) for name in COPIES], None, NOW) == []


def test_only_regular_files_go(tmp_path: Path) -> None:
    for name in COPIES[:3]:
        (tmp_path / name).write_text("")
    (tmp_path / COPIES[3]).mkdir()
    (tmp_path / COPIES[4]).symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / COPIES[5])
    gone = list(find([str(tmp_path / "fstab"), "/nonexistent/file"], 1, NOW))
    assert sorted(path.name for path in gone) == sorted(COPIES[:2])
    remove([*gone, tmp_path / "already gone"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(COPIES[2:6])
    assert list(find([str(tmp_path / "fstab")], 1, NOW)) == []
