# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may log in as an account by key: its `~/.ssh/authorized_keys`, looked at and replaced as that account.

What becomes of the text is a pure function. The file is reached through descriptors from / on: as far as the home
only root may have a say, below it the account, and nowhere below it is a link followed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

FOLDER, FILE = ".ssh", "authorized_keys"
# Debian's sshd reads both.
FILES = (FILE, "authorized_keys2")
RETIRED = "retired"
# What was there, while the change is on trial.
FORMER = f".{FILE}.former"

_SIZE = 1 << 20
_TIMEOUT = 10
_TYPES = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LINKS = 40  # as many as the kernel follows


@dataclass(frozen=True)
class Wish:
    """The keys of one account.

    Attributes:
        name, uid, gid, groups, home: the account, as it is on the host.
        keys: lines that must be there.
        former: lines that a former run put there: gone, unless they are in `keys`.
        exclusive: whether no other key may be there.
    """

    name: str
    uid: int
    gid: int
    home: str
    keys: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    exclusive: bool = False
    groups: tuple[int, ...] = ()

    @property
    def identity(self) -> as_account.Identity:
        return as_account.Identity(self.uid, self.gid, self.groups)


@dataclass(frozen=True)
class Outcome:
    """What a run changes in one account's file: the lines that go, those that come, permissions put right."""

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.removed or self.added or self.notes)

    def texts(self) -> tuple[str, str]:
        """Before and after, for a diff; others wrote what goes."""
        before = "".join(f"{shown(line)}\n" for line in self.removed)
        return before, "".join(f"{shown(line)}\n" for line in (*self.added, *self.notes))


# Keys


def parse(line: str) -> bytes | None:
    """The key of a line of authorized_keys, as sshd finds it: after at most one field of options; None for no key."""
    first, rest = _field(line.strip(" \t\r"))
    if not first.startswith(_TYPES):
        first, rest = _field(rest)
    if not first.startswith(_TYPES):
        return None
    try:
        blob = base64.b64decode(_field(rest)[0], validate=True)
    except (binascii.Error, ValueError):
        return None
    return blob if _whole(first, blob) else None


def _field(text: str) -> tuple[str, str]:
    """The first field and the rest; blanks between double quotes belong to the field, \\" does not end them."""
    quoted = False
    for index, letter in enumerate(text):
        if letter == '"' and text[index - 1 : index] != "\\":
            quoted = not quoted
        elif letter in " \t" and not quoted:
            return text[:index], text[index:].lstrip(" \t")
    return text, ""


def _whole(kind: str, blob: bytes) -> bool:
    """Whether it is all parts of a key of this type, the type first."""
    parts = []
    while len(blob) >= 4:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return False
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return not blob and len(parts) > 1 and parts[0] == kind.encode()


def check(name: str, line: str) -> str:
    """A declared line, without blanks around it; raises GpusteadError for what is not one line with a whole key."""
    bare = line.strip()
    if not bare.isprintable() or parse(bare) is None or bare.startswith("#"):
        remedy = "Paste the one line of a .pub file, such as ssh-ed25519 AAAA… ada@laptop."
        raise GpusteadError(f"key {shown(bare, 40)!r} of '{name}'", "one line with a whole public SSH key", remedy)
    return bare


def plan(text: str, wish: Wish) -> str:
    """What the file holds afterwards. Comments stay, and so do other people's keys where they may.

    A declared key stands there once, with its declared options: sshd goes on to a second line of a key whose first one
    does not let it in.
    """
    declared = {parse(line): line for line in wish.keys}
    former = {parse(line) for line in wish.former} - {None}
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    kept, placed = [], set()
    for line in lines:
        bare = line.strip(" \t\r")
        key = parse(bare) if bare and not bare.startswith("#") else None
        if key in declared and key is not None:
            if key not in placed:
                kept.append(line if bare == declared[key] else declared[key])
            placed.add(key)
        elif not bare or bare.startswith("#") or not (wish.exclusive or key in former):
            kept.append(line)
    kept += [line for key, line in declared.items() if key not in placed]
    return text if kept == lines else "".join(f"{line}\n" for line in kept)


def compare(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines that go and those that come."""
    old, new = Counter(before.split("\n")), Counter(after.split("\n"))
    return tuple(line for line in old - new if line), tuple(line for line in new - old if line)


# The file, within a child that is the account


@contextlib.contextmanager
def home(wish: Wish) -> Iterator[int]:
    """The account's home, open as a place; only root can change the way to it.

    Raises:
        GpusteadError: another account can, it is not the account's (nor root's), or it is not there.
    """
    place = _lead(wish.home, wish.name)
    try:
        status = os.fstat(place)
        if status.st_uid not in (0, wish.uid):
            what = f"home {wish.home} of '{wish.name}' belongs to uid {status.st_uid}"
            raise GpusteadError(what, f"uid {wish.uid}, or root", "Give it to its owner (chown), or correct home.")
        if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid not in (0, wish.gid)):
            what = f"home {wish.home} of '{wish.name}' can be changed by others (mode {status.st_mode & 0o7777:04o})"
            raise GpusteadError(what, "its owner alone; sshd takes no keys there else", f"chmod go-w {wish.home}")
        yield place
    finally:
        os.close(place)


def _lead(path: str, name: str) -> int:
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


def way_to(path: str, name: str) -> None:
    """Raise GpusteadError where others than root can change the way to a home, as far as it is there."""
    parts = PurePosixPath(path).parts
    for length in range(len(parts) - 1, 0, -1):
        above = str(PurePosixPath(*parts[:length]))
        try:
            place = _lead(above, name)
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


def settle(wish: Wish, check_only: bool) -> Outcome:
    """Bring one account's file about, as whoever we are now."""
    with home(wish) as top:
        path = path_of(wish.home)
        try:
            folder = _open(top, FOLDER, os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            folder = -1
        try:
            return _settle_in(top, folder, path, wish, check_only)
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


def _settle_in(top: int, folder: int, path: str, wish: Wish, check_only: bool) -> Outcome:
    notes = _judge_folder(folder, path, wish)
    before, mode = _contents(folder, path, wish)
    after = plan(before, wish)
    outcome = Outcome(*compare(before, after))
    if not after and mode is None:
        return outcome  # nothing is there, nothing is wanted
    if mode not in (None, 0o600):
        notes.append(f"{path}: mode 0600")
    if folder < 0:
        notes.append(f"{os.path.dirname(path)}: mode 0700")
    outcome = Outcome(outcome.removed, outcome.added, tuple(notes))
    if check_only or not outcome.changed:
        return outcome
    made = folder
    if folder < 0:
        os.mkdir(FOLDER, 0o700, dir_fd=top)
        made = _open(top, FOLDER, os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchmod(made, 0o700)
        as_account.put(made, FILE, after.encode(errors="surrogateescape"), 0o600)
    finally:
        if made != folder:
            os.close(made)
    return outcome


def _judge_folder(folder: int, path: str, wish: Wish) -> list[str]:
    """What has to be put right there, in words."""
    if folder < 0:
        return []
    status, name = os.fstat(folder), os.path.dirname(path)
    if status.st_uid != wish.uid:
        what = f"{name} of '{wish.name}' belongs to uid {status.st_uid}"
        raise GpusteadError(what, f"uid {wish.uid}", "Give it to its owner (chown), or move it out of the way.")
    return [] if stat.S_IMODE(status.st_mode) == 0o700 else [f"{name}: mode 0700"]


def _contents(folder: int, path: str, wish: Wish) -> tuple[str, int | None]:
    """The text and the permissions of the file; none where it is not there."""
    if folder < 0:
        return "", None
    try:
        file = _open(folder, FILE, path, os.O_RDONLY)
    except FileNotFoundError:
        return "", None
    try:
        status = as_account.regular(file, path, wish.uid)
        return as_account.contents(file, path, _SIZE).decode(errors="surrogateescape"), stat.S_IMODE(status.st_mode)
    finally:
        os.close(file)


def keep(wish: Wish) -> None:
    """Keep a copy of what is there, as whoever we are now."""
    path = path_of(wish.home)
    with home(wish) as top, _folder(top) as folder:
        text, _mode = _contents(folder, path, wish)
        as_account.put(folder, FORMER, text.encode(errors="surrogateescape"), 0o600)


def is_kept(wish: Wish) -> bool:
    """Whether such a copy is still there, as whoever we are now."""
    with home(wish) as top, _folder(top) as folder:
        try:
            os.stat(FORMER, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def forget(wish: Wish) -> bool:
    """Remove the copy, as whoever we are now; False where there was none."""
    with home(wish) as top, _folder(top) as folder:
        try:
            os.unlink(FORMER, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True


def take_back(wish: Wish) -> bool:
    """Put the copy in its place again, as whoever we are now; False where there was none."""
    with home(wish) as top, _folder(top) as folder:
        try:
            os.rename(FORMER, FILE, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return False
        return True


@contextlib.contextmanager
def _folder(top: int) -> Iterator[int]:
    folder = _open(top, FOLDER, FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def put_aside(wish: Wish) -> list[str]:
    """Take every key from an account that goes, as whoever we are now: the files are renamed, none is lost."""
    moved = []
    with home(wish) as top:
        try:
            folder = _open(top, FOLDER, f"{wish.home}/{FOLDER}", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            for name in FILES:
                aside = _free(folder, f"{name}.{RETIRED}")
                with contextlib.suppress(FileNotFoundError):
                    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
                    moved.append(f"{wish.home}/{FOLDER}/{aside}")
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


def settle_as_account(wish: Wish, check_only: bool) -> Outcome:
    """Bring one account's file about as that account; raises GpusteadError for all that can be wrong with it."""

    def work() -> dict[str, Any]:
        outcome = settle(wish, check_only)
        return {"removed": outcome.removed, "added": outcome.added, "notes": outcome.notes}

    said = _as_account(work, wish)
    return Outcome(*(tuple(said[part]) for part in ("removed", "added", "notes")))


def put_aside_as_account(wish: Wish) -> list[str]:
    """Take the keys of an account that goes, as that account; raises GpusteadError where it cannot be done."""
    moved: list[str] = as_the_account(put_aside, wish)
    return moved


def as_the_account(work: Callable[[Wish], Any], wish: Wish) -> Any:
    """Do one of the above as the account; raises GpusteadError for all that can be wrong."""
    return _as_account(lambda: work(wish), wish)


def _as_account(work: Callable[[], Any], wish: Wish) -> Any:
    place = f"{wish.home}/{FOLDER} of '{wish.name}'"
    try:
        return as_account.run(work, wish.identity, timeout=_TIMEOUT, size=4 * _SIZE, place=place)
    except PermissionError as error:
        what = f"{place}: {error.strerror} for uid {wish.uid} ({shown(error.filename or wish.home)})"
        raise GpusteadError(what, "the account to be able to read and write it", "See its permissions.") from error


def supplementary(name: str, group_text: str) -> tuple[int, ...]:
    """The groups of an account by the text of /etc/group: a directory service could hang."""
    rows = (line.split(":") for line in group_text.splitlines())
    return tuple(int(row[2]) for row in rows if len(row) == 4 and row[2].isdigit() and name in row[3].split(","))


def path_of(home: str) -> str:
    return f"{home.rstrip('/')}/{FOLDER}/{FILE}"
