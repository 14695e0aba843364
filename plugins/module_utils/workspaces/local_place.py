# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The places of accounts on a node, below a directory that only root enters; and copies of their settings.

An account's place is the account's: what lies in it is made with its ids, through a descriptor of the place. Settings
are read from the account's home with its ids, too, and copied, as a container would follow a link that lies there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# Settings are small; what is not is something else.
FILE_SIZE, ALL_SIZE, ENTRIES, DEPTH = 1 << 20, 4 << 20, 2000, 12
COPIES = ".settings"  # not the name of an account
SECONDS = 20  # that all settings of an account have: it can keep whoever reads as it waiting
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class PlaceOwner:
    """`homes`: the directory in which its home lies; root's."""

    name: str
    uid: int
    gid: int
    homes: str = "/home"

    @property
    def who(self) -> as_account.Identity:
        return as_account.Identity(self.uid, self.gid)


@dataclass
class Outcome:
    """`changes`: (place, before, after). `refused`: what keeps the place from being used. `left_out`: settings that
    were not copied, and why. `settings`: those that were."""

    changes: list[tuple[str, str, str]] = field(default_factory=list)
    refused: GpusteadError | None = None
    left_out: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)


# The place


def make_top(top: str, check: bool) -> list[tuple[str, str, str]]:
    """The directory of all places: nobody but root enters it, so no program of a container's is run by the host.

    Raises:
        GpusteadError: somebody else could change its path.
    """
    top = os.path.normpath(top)
    at = "/"
    for name in ("", *as_account.steps(top.lstrip("/")), COPIES):
        at = os.path.join(at, name)
        try:
            status = os.lstat(at)
        except FileNotFoundError:
            break
        # What others were let into by mistake is closed again below.
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and at not in (top, os.path.join(top, COPIES))
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or others:
            expected = "a directory that only root can change"
            raise GpusteadError(f"{at}, on the way to {top}", expected, "Set workspace_local_dir to a path of root's.")
    return [change for path in (top, os.path.join(top, COPIES)) for change in _make_roots(path, 0o700, check)]


def _make_roots(path: str, mode: int, check: bool) -> list[tuple[str, str, str]]:
    """Make a directory of root's, or put it right."""
    before, after = _described(path), f"directory 0:0 {mode:04o}"
    if before == after:
        return []
    if not check:
        os.makedirs(path, 0o755, exist_ok=True)
        os.chown(path, 0, 0)
        os.chmod(path, mode)
    return [(path, before, after)]


def forget_others(top: str, names: Sequence[str], check: bool) -> list[tuple[str, str, str]]:
    """Remove the copies of settings of accounts that have no place any more; their places stay."""
    copies = os.path.join(top, COPIES)
    others = sorted(set(os.listdir(copies)) - set(names)) if os.path.isdir(copies) else []
    for name in others if not check else ():
        shutil.rmtree(os.path.join(copies, name))
    return [(os.path.join(copies, name), "copies of settings", "") for name in others]


def _described(path: str, directory: int | None = None) -> str:
    try:
        status = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    others = {stat.S_IFLNK: "symbolic link", stat.S_IFREG: "file"}
    kind = "directory" if stat.S_ISDIR(status.st_mode) else others.get(stat.S_IFMT(status.st_mode), "special file")
    return f"{kind} {status.st_uid}:{status.st_gid} {stat.S_IMODE(status.st_mode):04o}"


def apply(top: str, account: PlaceOwner, inner: Sequence[str], settings: Sequence[str] | None, check: bool) -> Outcome:
    """Have an account's place with its directories and, unless None, the copies of its settings.

    Args:
        top: where the places lie; made before, but for a check.
        account: whose.
        inner: names of directories in it.
        settings: files and directories in its home, relative to it.
        check: whether to only look.
    """
    outcome = Outcome()
    try:
        outcome.changes = _make_place(top, account, inner, check)
        if settings is not None:
            wanted = collect(account, settings, outcome)
            outcome.settings = [path for path in settings if path in wanted]
            outcome.changes += _copy(top, account, wanted, check)
    except GpusteadError as error:
        outcome.refused = error
    except PermissionError as error:
        what = f"{error.filename or os.path.join(top, account.name)} is closed to {account.name}"
        outcome.refused = GpusteadError(what, "it to be open to its owner", "Give it to its owner with mode 0700.")
    except OSError as error:
        what = f"{os.path.join(top, account.name)}: {error.strerror or error}"
        outcome.refused = GpusteadError(what, "it to work", "Look at what lies there, and at the file system.")
    return outcome


def _make_place(top: str, account: PlaceOwner, inner: Sequence[str], check: bool) -> list[tuple[str, str, str]]:
    path = os.path.join(top, account.name)
    before, after = _described(path), f"directory {account.uid}:{account.gid} 0700"
    changes = [(path, before, after)] if before != after else []
    if before and not before.startswith(f"directory {account.uid}:"):
        # A directory of another uid: the account was renumbered, and what lies in it was not.
        remedy = f"Give it and what lies in it to {account.name}, or move it out of the way."
        raise GpusteadError(f"{path} is a {before}", f"a directory of uid {account.uid}", remedy)
    if check and not before:
        return [*changes, *((os.path.join(path, name), "", after) for name in inner)]
    if not before:
        os.mkdir(path, 0o700)
    place = os.open(path, _FOLDER)
    try:
        if changes and not check:
            os.fchown(place, account.uid, account.gid)
            os.fchmod(place, 0o700)
        work = partial(_make_inner, place, path, account, inner, check)
        return [*changes, *(tuple(change) for change in as_account.run(work, account.who, place=path))]
    finally:
        os.close(place)


def _make_inner(
    place: int, path: str, account: PlaceOwner, inner: Sequence[str], check: bool
) -> list[tuple[str, str, str]]:
    """Work of a child that is the account."""
    changes = []
    for name in inner:
        before, after = _described(name, place), f"directory {account.uid}:{account.gid} 0700"
        if before == after:
            continue
        changes.append((os.path.join(path, name), before, after))
        if before and not before.startswith(f"directory {account.uid}:"):
            remedy = "Move it out of the way; the directory is made again."
            raise GpusteadError(f"{path}/{name} is a {before}", f"a directory of {account.name}'s", remedy)
        if check:
            continue
        if not before:
            os.mkdir(name, 0o700, dir_fd=place)
        folder = os.open(name, _FOLDER, dir_fd=place)
        try:
            os.fchown(folder, -1, account.gid)
            os.fchmod(folder, 0o700)
        finally:
            os.close(folder)
    return changes


# Settings: {path: {"mode": bits, "data": base64, or None for a directory}}, parents before what lies in them.

Tree = dict[str, dict[str, Any]]


def collect(account: PlaceOwner, settings: Sequence[str], outcome: Outcome | None = None) -> Tree:
    """What of the settings is in the account's home, read by the account. What cannot be is left out and said."""
    wanted: Tree = {}
    end = time.monotonic() + SECONDS
    for relative in settings:
        path = os.path.join(account.homes, account.name, relative)
        try:
            left = end - time.monotonic()
            if left <= 0:
                remedy = "See what hangs there, and run again."
                raise GpusteadError(f"{path} was not read: what came before it took too long", "answers", remedy)
            work = partial(_collect, account, relative)
            found = as_account.run(work, account.who, timeout=left, size=2 * ALL_SIZE + (1 << 20), place=path)
        except (GpusteadError, PermissionError) as error:
            if outcome is not None:
                reason = str(error) if isinstance(error, GpusteadError) else f"{path}: {error.strerror}"
                outcome.left_out.append(f"{account.name}: {reason}")
            continue
        if found:
            for above in _parents(relative):
                wanted.setdefault(above, {"mode": 0o755, "data": None})
            wanted.update(found)
    return wanted


def _parents(relative: str) -> list[str]:
    parts = as_account.steps(relative)
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _collect(account: PlaceOwner, relative: str) -> Tree:
    """Work of a child that is the account."""
    found: Tree = {}
    size = 0
    ahead = [(relative, 0)]  # instead of recursion
    while ahead:
        path, depth = ahead.pop()
        try:
            names, read = _take(account, path, found)
        except FileNotFoundError:
            continue
        ahead += [(f"{path}/{name}", depth + 1) for name in reversed(names)]
        size += read
        if len(found) + len(ahead) > ENTRIES or size > ALL_SIZE or depth > DEPTH:
            what = f"{os.path.join(account.homes, account.name, relative)} is large"
            expected = f"at most {ENTRIES} files, {ALL_SIZE >> 20} MiB, {DEPTH} directories deep"
            raise GpusteadError(what, expected, "Make it smaller, or take it off workspace_local_settings.")
    return found


def _take(account: PlaceOwner, path: str, found: Tree) -> tuple[list[str], int]:
    """Read a file or a directory; returns the names in it and the bytes that were read."""
    shown = os.path.join(account.homes, account.name, path)
    file = as_account.open_beneath(account.homes, f"{account.name}/{path}")
    try:
        status = os.fstat(file)
        mode = stat.S_IMODE(status.st_mode) & 0o755
        if stat.S_ISDIR(status.st_mode):
            found[path] = {"mode": mode, "data": None}
            return sorted(os.listdir(file)), 0
        as_account.regular(file, shown)
        data = as_account.contents(file, shown, FILE_SIZE)
        found[path] = {"mode": mode, "data": base64.b64encode(data).decode()}
        return [], len(data)
    finally:
        os.close(file)


def digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _copy(top: str, account: PlaceOwner, wanted: Tree, check: bool) -> list[tuple[str, str, str]]:
    """Make the copies as the settings are, in place: a container sees them at once. Only root enters there."""
    folder = os.path.join(top, COPIES, account.name)
    before = _described(folder)
    if before and not before.startswith("directory 0:"):
        raise GpusteadError(f"{folder} is a {before}", "a directory of root's", "Move it out of the way.")
    changes = _make_roots(folder, 0o755, check)
    there = dict(_present(folder)) if os.path.isdir(folder) else {}
    declared = {path: _copied(account, entry) for path, entry in wanted.items()}
    for path in sorted(there, reverse=True):
        if path not in declared or there[path]["kind"] != declared[path]["kind"]:
            changes.append((os.path.join(folder, path), there[path]["kind"], ""))
            if not check:
                full = os.path.join(folder, path)
                os.rmdir(full) if there[path]["kind"] == "directory" else os.unlink(full)
    for path, one in declared.items():
        full = os.path.join(folder, path)
        if there.get(path) == one:
            continue
        changes.append((full, "other" if path in there else "", f"{one['kind']} {one['owner']} {one['mode']:04o}"))
        if not check:
            _put(full, account, wanted[path], one)
    return changes


def _copied(account: PlaceOwner, entry: Mapping[str, Any]) -> dict[str, Any]:
    """How a copy looks: nobody but its owner may read more than at home, and nobody may write."""
    if entry["data"] is None:
        return {"kind": "directory", "owner": f"0:{account.gid}", "mode": entry["mode"] & 0o055 | 0o750, "data": None}
    digest_of = hashlib.sha256(base64.b64decode(entry["data"])).hexdigest()
    mode = entry["mode"] & 0o555 | 0o400
    return {"kind": "file", "owner": f"{account.uid}:{account.gid}", "mode": mode, "data": digest_of}


def _present(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            full = os.path.join(where, name)
            status = os.lstat(full)
            about = {"owner": f"{status.st_uid}:{status.st_gid}", "mode": stat.S_IMODE(status.st_mode)}
            data, kind = None, "directory"
            if not stat.S_ISDIR(status.st_mode):
                kind = "file" if stat.S_ISREG(status.st_mode) else "other"
            if kind == "file":
                with open(full, "rb") as file:
                    data = hashlib.sha256(file.read()).hexdigest()
            yield os.path.relpath(full, folder), {"kind": kind, **about, "data": data}


def _put(full: str, account: PlaceOwner, entry: Mapping[str, Any], one: Mapping[str, Any]) -> None:
    if one["kind"] == "directory":
        os.makedirs(full, 0o700, exist_ok=True)
        os.chown(full, 0, account.gid)
        os.chmod(full, one["mode"])
        return
    above = os.open(os.path.dirname(full), _FOLDER)
    try:
        as_account.put(above, os.path.basename(full), base64.b64decode(entry["data"]), 0o400)
        os.chown(full, account.uid, account.gid, follow_symlinks=False)
        os.chmod(full, one["mode"])
    finally:
        os.close(above)
