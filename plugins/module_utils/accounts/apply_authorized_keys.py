# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file with the keys of an account, looked at and replaced as that account.

It is reached through descriptors from / on: as far as the home only root may have a say, below it the account, and
nowhere below it is a link followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import (
    FILE,
    FOLDER,
    SECOND,
    DesiredKeys,
    Outcome,
    compare,
    path_of,
    plan,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# Debian's sshd reads both.
FILES = (FILE, SECOND)
RETIRED = "retired"
# What was there, while the change is on trial.
FORMER = f".{FILE}.former"

_SIZE = 1 << 20
_TIMEOUT = 10
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LINKS = 40  # as many as the kernel follows


# The file, within a child that is the account


@contextlib.contextmanager
def home(desired: DesiredKeys) -> Iterator[int]:
    """The account's home, open as a place; only root can change the way to it.

    Raises:
        GpusteadError: another account can, it is not the account's (nor root's), or it is not there.
    """
    place = _open_way(desired.home, desired.name)
    try:
        status = os.fstat(place)
        if status.st_uid not in (0, desired.uid):
            what = f"home {desired.home} of '{desired.name}' belongs to uid {status.st_uid}"
            raise GpusteadError(what, f"uid {desired.uid}, or root", "Give it to its owner (chown), or correct home.")
        if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid not in (0, desired.gid)):
            what = (
                f"home {desired.home} of '{desired.name}' can be changed by others (mode {status.st_mode & 0o7777:04o})"
            )
            raise GpusteadError(what, "its owner alone; sshd takes no keys there else", f"chmod go-w {desired.home}")
        yield place
    finally:
        os.close(place)


def _open_way(path: str, name: str) -> int:
    """Open a directory step by step, each in one that only root can change; links there are root's."""
    ahead = list(reversed(PurePosixPath(path).parts[1:]))
    seen: list[str] = []
    links = 0
    at = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while ahead:
            _only_root(at, "/" + "/".join(seen), name)
            step = ahead.pop()
            found = _step(at, step, path, name)
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode) and links < _LINKS:
                os.close(found)
                links += 1
                target = PurePosixPath("/", *seen, os.readlink(step, dir_fd=at))
                ahead += reversed(PurePosixPath(os.path.normpath(target)).parts[1:])
                os.close(at)
                at, seen = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), []
                continue
            os.close(at)
            at = found
            seen.append(step)
            if not stat.S_ISDIR(status.st_mode):
                what = f"home {path} of '{name}' is no directory"
                raise GpusteadError(what, "a directory", "Move it out of the way and make one, or correct home.")
        return at
    except BaseException:
        os.close(at)
        raise


def refuse_insecure_way(path: str, name: str) -> None:
    """Raise GpusteadError where others than root can change the way to a home, as far as it is there."""
    parts = PurePosixPath(path).parts
    for length in range(len(parts) - 1, 0, -1):
        above = str(PurePosixPath(*parts[:length]))
        try:
            place = _open_way(above, name)
        except GpusteadError:
            if os.path.lexists(above):
                raise
            continue
        try:
            _only_root(place, above, name)
        finally:
            os.close(place)
        return


def _step(at: int, step: str, path: str, name: str) -> int:
    try:
        return os.open(step, _STEP, dir_fd=at)
    except FileNotFoundError:
        remedy = "Make it and give it to the account, or give the account a home that is there."
        raise GpusteadError(f"home {path} of '{name}' is not there", "a directory", remedy) from None


def _only_root(place: int, path: str, name: str) -> None:
    status = os.fstat(place)
    # In a directory with the sticky bit nobody renames what is another's.
    loose = status.st_mode & _OTHERS and not status.st_mode & stat.S_ISVTX
    if status.st_uid != 0 or loose:
        what = f"{path}, above the home of '{name}', can be changed by others than root"
        raise GpusteadError(what, "root's alone", f"chown root {path}; chmod go-w {path}; or give it another home.")


def apply(desired: DesiredKeys, check_only: bool) -> Outcome:
    """Bring one account's file about, as whoever we are now."""
    with home(desired) as top:
        path = path_of(desired.home)
        try:
            folder = _open(top, FOLDER, os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            folder = -1
        try:
            return _apply_in(top, folder, path, desired, check_only)
        finally:
            if folder >= 0:
                os.close(folder)


def _open(place: int, name: str, path: str, flags: int) -> int:
    """What lies there, never through a link; errors say where that is."""
    try:
        return as_account.open_beneath(place, name, flags)
    except GpusteadError as error:
        kind = "directory" if flags & os.O_DIRECTORY else "file"
        raise GpusteadError(f"{path} is a symbolic link or no {kind}", f"a {kind}", error.remedy) from error
    except OSError as error:
        error.filename = path
        raise


def _apply_in(top: int, folder: int, path: str, desired: DesiredKeys, check_only: bool) -> Outcome:
    notes = _check_folder(folder, path, desired)
    before, status = _contents(folder, FILE, desired)
    after = plan(before, desired)
    # What is declared goes into the first file: in the second one there is nothing but what may be there besides.
    second = _contents(folder, SECOND, desired)[0] if desired.exclusive else ""
    left = plan(second, replace(desired, keys=()))
    removed, added = compare(before, after)
    removed += compare(second, left)[0]
    wanted = after or status
    if not wanted and not removed:
        return Outcome()  # nothing is there, nothing is wanted
    if status and stat.S_IMODE(status.st_mode) != 0o600:
        notes.append(f"{path}: mode 0600")
    if status and status.st_gid != desired.gid:
        notes.append(f"{path}: group {desired.gid}")
    if folder < 0:
        notes.append(f"{os.path.dirname(path)}: mode 0700")
    outcome = Outcome(removed, added, tuple(notes))
    if check_only or not outcome.changed:
        return outcome
    made = folder
    if folder < 0:
        os.mkdir(FOLDER, 0o700, dir_fd=top)
        made = _open(top, FOLDER, os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchmod(made, 0o700)
        if wanted:
            _put(made, FILE, after, desired)
        if left != second:
            _put(made, SECOND, left, desired)
    finally:
        if made != folder:
            os.close(made)
    return outcome


def _check_folder(folder: int, path: str, desired: DesiredKeys) -> list[str]:
    """What has to be put right there, in words."""
    if folder < 0:
        return []
    status, name = os.fstat(folder), os.path.dirname(path)
    if status.st_uid != desired.uid:
        what = f"{name} of '{desired.name}' belongs to uid {status.st_uid}"
        raise GpusteadError(what, f"uid {desired.uid}", "Give it to its owner (chown), or move it out of the way.")
    return [] if stat.S_IMODE(status.st_mode) == 0o700 else [f"{name}: mode 0700"]


def _contents(folder: int, name: str, desired: DesiredKeys) -> tuple[str, os.stat_result | None]:
    """The text and the status of a file with keys; none where it is not there."""
    if folder < 0:
        return "", None
    path = path_of(desired.home, name)
    try:
        file = _open(folder, name, path, os.O_RDONLY)
    except FileNotFoundError:
        return "", None
    try:
        status = as_account.regular(file, path, desired.uid)
        return as_account.contents(file, path, _SIZE).decode(errors="surrogateescape"), status
    finally:
        os.close(file)


def _put(folder: int, name: str, text: str, desired: DesiredKeys) -> None:
    # A directory with the setgid bit would give it another group.
    as_account.put(folder, name, text.encode(errors="surrogateescape"), 0o600, owner=(-1, desired.gid))


def keep(desired: DesiredKeys) -> None:
    """Keep a copy of what is there, as whoever we are now; of both files, where keys may go from both."""
    with home(desired) as top, _folder(top) as folder:
        texts = [_contents(folder, name, desired)[0] for name in (FILES if desired.exclusive else (FILE,))]
        # Without an end of its last line the first key of the next would be a part of it.
        texts = [text if text.endswith("\n") or not text else f"{text}\n" for text in texts]
        _put(folder, FORMER, "".join(texts), desired)


def is_kept(desired: DesiredKeys) -> bool:
    """Whether such a copy is still there, as whoever we are now."""
    return _with_copy(desired, lambda folder: os.stat(FORMER, dir_fd=folder, follow_symlinks=False))


def forget(desired: DesiredKeys) -> bool:
    """Remove the copy, as whoever we are now; False where there was none."""
    return _with_copy(desired, lambda folder: os.unlink(FORMER, dir_fd=folder))


def take_back(desired: DesiredKeys) -> bool:
    """Put the copy in its place again, as whoever we are now; False where there was none."""
    return _with_copy(desired, lambda folder: os.rename(FORMER, FILE, src_dir_fd=folder, dst_dir_fd=folder))


def _with_copy(desired: DesiredKeys, work: Callable[[int], object]) -> bool:
    with home(desired) as top, _folder(top) as folder, contextlib.suppress(FileNotFoundError):
        work(folder)
        return True
    return False


@contextlib.contextmanager
def _folder(top: int) -> Iterator[int]:
    folder = _open(top, FOLDER, FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def retire(desired: DesiredKeys) -> list[str]:
    """Take every key from an account that goes, as whoever we are now: the files are renamed, none is lost."""
    moved = []
    with home(desired) as top:
        try:
            folder = _open(top, FOLDER, f"{desired.home}/{FOLDER}", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            for name in FILES:
                aside = _free(folder, f"{name}.{RETIRED}")
                with contextlib.suppress(FileNotFoundError):
                    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
                    moved.append(f"{desired.home}/{FOLDER}/{aside}")
        finally:
            os.close(folder)
    return moved


def _free(folder: int, name: str) -> str:
    for number in range(1000):
        candidate = f"{name}.{number}" if number else name
        try:
            os.stat(candidate, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return candidate
    raise GpusteadError(f"{name} and 999 more are there", "a free name", "Clear them up.")


# From outside, as root


def apply_as_account(desired: DesiredKeys, check_only: bool) -> Outcome:
    """Bring one account's file about as that account; raises GpusteadError for all that can be wrong with it."""
    said = as_the_account(lambda one: vars(apply(one, check_only)), desired)
    return Outcome(**{part: tuple(lines) for part, lines in said.items()})


def retire_as_account(desired: DesiredKeys) -> list[str]:
    """Take the keys of an account that goes, as that account; raises GpusteadError where it cannot be done."""
    moved: list[str] = as_the_account(retire, desired)
    return moved


def as_the_account(work: Callable[[DesiredKeys], Any], desired: DesiredKeys) -> Any:
    """Do one of the above as the account; raises GpusteadError for all that can be wrong."""
    place = f"{desired.home}/{FOLDER} of '{desired.name}'"
    try:
        return as_account.run(lambda: work(desired), desired.identity, timeout=_TIMEOUT, size=4 * _SIZE, place=place)
    except PermissionError as error:
        what = f"{place}: {error.strerror} for uid {desired.uid} ({shown(error.filename or desired.home)})"
        raise GpusteadError(what, "the account to be able to read and write it", "See its permissions.") from error
