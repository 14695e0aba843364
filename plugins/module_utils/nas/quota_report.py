# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What repquota(8) says of each account, and a note of it on the share, for the account alone.

Role nas has this file on the NAS server as a program, `<this> EXPORT`: it imports nothing of ours.

A note, and not rpc.rquotad for `quota -s` on the nodes: that would take rpcbind and one more port on a server that has
2049 alone, and it answers whoever asks for whomever.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

DIRECTORY = (".cluster", "quotas")
# User (#uid), BlockStatus, FileStatus, BlockUsed, BlockSoftLimit, BlockHardLimit, BlockGrace, FileUsed, FileSoftLimit,
# FileHardLimit, FileGrace; `quotaon -v` and `repquota -v` print other lines, too.
_ROW = re.compile(r"#(\d+),[^,]*,[^,]*,(\d+),(\d+),(\d+),[^,]*,(\d+),(\d+),(\d+),[^,]*")
_STATE = re.compile(r"^user quota on .* is on(?: \((enforced|accounting)\))?$", re.MULTILINE)
_UNITS = ((30, "TiB"), (20, "GiB"), (10, "MiB"), (0, "KiB"))
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC


class AccountQuota(NamedTuple):
    """What an account has on a file system, and may have: KiB, and numbers of files; 0 is no limit."""

    used: int
    soft: int
    hard: int
    files: int
    files_soft: int
    files_hard: int


def place_of(path: str) -> str:
    """Where the file system of a directory is mounted."""
    device, path = os.stat(path).st_dev, os.path.realpath(path)
    while path != "/" and os.stat(os.path.dirname(path)).st_dev == device:
        path = os.path.dirname(path)
    return path


def command(place: str) -> list[str]:
    """What says it of all accounts of the file system that is mounted at a place, also of those that have nothing."""
    return ["repquota", "--user", "--no-names", "--verbose", "--output=csv", "--", place]


def state_command(place: str) -> list[str]:
    """What says whether they are on; its status says nothing."""
    return ["quotaon", "--print-state", "--verbose", "--user", "--", place]


def state(text: str) -> str:
    """`enforced`, `accounting` or `off`, by what `state_command` prints.

    Of quotas that lie in files, as they did before ext4 had them in itself, it tells no more than that they are on.
    """
    found = _STATE.search(text)
    return (found[1] or "enforced") if found else "off"


def parse(text: str) -> dict[int, AccountQuota]:
    """By uid, what `command` prints."""
    rows = (_ROW.fullmatch(line.strip()) for line in text.splitlines())
    return {int(row[1]): AccountQuota(*map(int, row.groups()[1:])) for row in rows if row}


def sized(kib: int) -> str:
    shift, unit = next(one for one in _UNITS if kib >> one[0] or one[0] == 0)
    return f"{kib / (1 << shift):.1f}".rstrip("0").rstrip(".") + f" {unit}"


def sentence(quota: AccountQuota, now: float) -> str:
    """What an account reads of its own."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    part = 100 * quota.used // quota.hard
    return f"You have {sized(quota.used)} of {sized(quota.hard)} on the share, {part} % ({when}).\n"


@contextlib.contextmanager
def _directory(export: str) -> Iterator[int]:
    """The open directory of the notes, which is made with the owner of what it lies in. Raises FileNotFoundError before
    a node has made the layout."""
    at = os.open(export, os.O_DIRECTORY | _SAFELY)
    try:
        for name in DIRECTORY:
            above, made = os.fstat(at), name == DIRECTORY[-1] and _is_made(at, name)
            inner = os.open(name, os.O_DIRECTORY | _SAFELY, dir_fd=at)
            os.close(at)
            at = inner
            # By the descriptor: who is the layout's owner somewhere may have put something else there meanwhile.
            if made and os.fstat(at).st_uid == os.geteuid():
                os.fchown(at, above.st_uid, above.st_gid)
        yield at
    finally:
        os.close(at)


def _is_made(above: int, name: str) -> bool:
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        return False
    return True


def write(export: str, notes: dict[int, str]) -> None:
    """One file for each account, which only that can read; of others nothing stays. Raises OSError.

    What somebody has put in the way of one, with sudo in a container say, is named, and stops none of the others.
    """
    with _directory(export) as at:
        for uid, text in notes.items():
            with _named(str(uid)):
                _put(at, uid, text)
        for name in set(os.listdir(at)) - set(map(str, notes)):
            with _named(name):
                os.unlink(name, dir_fd=at)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        sys.stderr.write(f"{name!r}: {error.strerror}\n")


def _put(at: int, uid: int, text: str) -> None:
    draft = f".{uid}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=at)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o400, dir_fd=at)
    with open(file, "w", encoding="ascii") as out:
        out.write(text)
        os.fchown(file, uid, -1)
    os.replace(draft, str(uid), src_dir_fd=at, dst_dir_fd=at)


def main(export: str) -> int:
    done = subprocess.run(command(place_of(export)), capture_output=True, text=True, check=False, timeout=300)
    found = parse(done.stdout)
    if done.returncode and not found:
        sys.stderr.write(done.stderr)
        return done.returncode
    with contextlib.suppress(FileNotFoundError):
        write(export, {uid: sentence(quota, time.time()) for uid, quota in found.items() if quota.hard})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
