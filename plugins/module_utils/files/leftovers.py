# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is left beside a file that is written again and again: its copies, and temporary files of runs that were killed.

A copy is named by Ansible (`fstab.2358.2026-11-28@23:45:18~`) or by us (`daemon.json.2026-11-28@23:45:18.bak`), as a
temporary file is (`.ansible_tmpa1b2fstab`, `.daemon.json.0123456789ab.tmp`).
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account

KEEP = 5  # copies of a file
_DAY = 86400  # seconds after which Ansible writes a temporary file no more
_MINUTE = 60  # and we, who put it in its place at once
_STAMP = r"([0-9]{4}-[0-9]{2}-[0-9]{2}@[0-9]{2}:[0-9]{2}:[0-9]{2})"
_COPY = re.compile(rf"\.(?:[0-9]+\.)?{_STAMP}(?:~|\.bak)", re.ASCII)
_ANSIBLES = ".ansible_tmp"
_OURS = re.compile(rf"(?:{_STAMP}\.bak\.)?[0-9a-f]{{12}}\.tmp", re.ASCII)  # of the file, or of a copy


@dataclass(frozen=True)
class FileBeside:
    """A regular file of a directory: its name, and when it was last written, in seconds since the epoch."""

    name: str
    written: float


def superfluous(file: str, entries: Iterable[FileBeside], keep: int | None, now: float) -> list[str]:
    """The names of a directory's entries that may go, sorted.

    Args:
        file: name of the file that they belong to.
        entries: the regular files beside it.
        keep: how many copies stay, the newest; None: all.
        now: seconds since the epoch.
    """
    copies: list[tuple[str, str]] = []
    gone = []
    drafts = as_account.draft(file)
    for entry in entries:
        stamp = _COPY.fullmatch(entry.name[len(file) :]) if entry.name.startswith(file) else None
        if stamp:
            copies.append((stamp[1], entry.name))
        age = now - entry.written
        ansibles = entry.name.startswith(_ANSIBLES) and entry.name.endswith(file) and entry.name != file
        ours = entry.name.startswith(drafts) and _OURS.fullmatch(entry.name[len(drafts) :])
        if (ansibles and age > _DAY) or (ours and age > _MINUTE):
            gone.append(entry.name)
    copies.sort()
    old = [] if keep is None else copies[: max(0, len(copies) - keep)]
    return sorted(gone + [name for _stamp, name in old])


def find(files: Sequence[str], keep: int | None, now: float) -> Iterator[Path]:
    """What may go beside each of these files, in whose directories only root can write."""
    for file in map(Path, files):
        names = superfluous(file.name, _entries(file.parent), keep, now)
        yield from (file.parent / name for name in names)


def remove(paths: Iterable[Path]) -> None:
    """Remove them; one that somebody else has removed is gone as well. Raises OSError."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _entries(directory: Path) -> Iterator[FileBeside]:
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield FileBeside(path.name, status.st_mtime)
