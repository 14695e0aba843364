# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which copies of a file stay, and what beside it is nobody's to remove."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
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
