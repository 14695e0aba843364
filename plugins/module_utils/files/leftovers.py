# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is left beside a file that is written again and again: its copies, and temporary files of runs that were killed.

A copy is named by Ansible (`fstab.2358.2026-11-28@23:45:18~`) or by us (`daemon.json.2026-11-28@23:45:18.bak`).
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

KEEP = 5  # copies of a file
_DAY = 86400  # seconds after which nobody writes a temporary file any more
_COPY = re.compile(r"\.(?:[0-9]+\.)?([0-9]{4}-[0-9]{2}-[0-9]{2}@[0-9]{2}:[0-9]{2}:[0-9]{2})(?:~|\.bak)", re.ASCII)
_TEMPORARY = ".ansible_tmp"


@dataclass(frozen=True)
class FileBeside:
    """A regular file of a directory: its name, and when it was last written, in seconds since the epoch."""

    name: str
    written: float


def superfluous(file: str, entries: Iterable[FileBeside], keep: int, now: float) -> list[str]:
    """The names of a directory's entries that may go, sorted.

    Args:
        file: name of the file that they belong to.
        entries: the regular files beside it.
        keep: how many copies stay, the newest.
        now: seconds since the epoch.
    """
    copies: list[tuple[str, str]] = []
    gone = []
    for entry in entries:
        stamp = _COPY.fullmatch(entry.name[len(file) :]) if entry.name.startswith(file) else None
        if stamp:
            copies.append((stamp[1], entry.name))
        temporary = entry.name.startswith(_TEMPORARY) and entry.name.endswith(file) and entry.name != file
        if temporary and entry.written < now - _DAY:
            gone.append(entry.name)
    copies.sort()
    return sorted(gone + [name for _stamp, name in copies[: max(0, len(copies) - keep)]])


def find(files: Sequence[str], keep: int, now: float) -> Iterator[Path]:
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
