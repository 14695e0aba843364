# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files on a network share, each written as its owner: on a squashed export root is nobody."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import select
import signal
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


@dataclass(frozen=True)
class Entry:
    """One directory or file.

    Attributes:
        path: relative to the root of the share.
        state: directory, file, existing (a file that is put right and never made), link (made where nothing is, else
            left as it is) or absent.
        owner: uid that owns it and that does the writing.
        group: gid.
        mode: permission bits.
        content: what a file holds; None leaves the content of one that is there.
        generate: number of random bytes of a token that is written once; 0 for none.
        secret: whether the content must stay out of diffs.
        target: where a link leads; it need not be there.
    """

    path: str
    state: str
    owner: int
    group: int
    mode: int
    content: str | None = None
    generate: int = 0
    secret: bool = False
    target: str = ""

    @property
    def kind(self) -> str:
        return "file" if self.state == "existing" else self.state


@dataclass(frozen=True)
class Change:
    """What is there and what should be, as text for people; equal when there is nothing to do."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def parse(raw: Mapping[str, Any]) -> Entry:
    """Make an entry of a module's argument; raises GpusteadError for one that cannot be meant."""
    path, state, mode = str(raw["path"]), raw["state"], str(raw.get("mode") or "")
    parts = Path(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise GpusteadError(f"path {path!r}", "a path below the root, without '..'", "Correct the entry.")
    target = str(raw.get("target") or "")
    if (state == "link") != bool(target):
        raise GpusteadError(f"{path}, a {state}", "a target for a link, and for nothing else", "Correct the entry.")
    if state not in ("absent", "link") and not re.fullmatch("[0-7]{3,4}", mode):
        raise GpusteadError(f"mode {mode!r} of {path}", "an octal mode such as '0644'", "Correct the entry.")
    content, generate = raw.get("content"), int(raw.get("generate") or 0)
    if state == "existing" and (content is not None or generate):
        raise GpusteadError(f"file {path}", "no content where it only has to exist", "Leave content and generate out.")
    if state == "file" and (content is None) == (generate == 0):
        raise GpusteadError(f"file {path}", "either content or generate", "Give exactly one of them.")
    if generate and generate < 16:
        raise GpusteadError(f"generate {generate} for {path}", "at least 16 random bytes", "Ask for more.")
    hidden = bool(raw.get("secret")) or generate > 0
    bits = int(mode, 8) if mode else 0
    return Entry(path, state, int(raw["owner"]), int(raw["group"]), bits, content, generate, hidden, target)


def describe(entry: Entry, content: str | None) -> str:
    """An entry as it should be, in the form of a diff."""
    if entry.state == "link":
        return f"{entry.path}: link to {entry.target}\n"
    head = f"{entry.path}: {entry.kind} {entry.owner}:{entry.group} {entry.mode:04o}\n"
    if entry.kind != "file" or content is None:
        return head
    return head + ("(secret)\n" if entry.secret else content)


def observe(root: str, entry: Entry) -> str:
    """What is there, in the same form; an empty text for nothing. Raises GpusteadError for what must not be touched."""
    path = os.path.join(root, entry.path)
    parent = os.path.dirname(path)
    if os.path.realpath(parent) != os.path.join(os.path.realpath(root), os.path.dirname(entry.path)).rstrip("/"):
        raise GpusteadError(f"{parent}", "no symbolic link on the way", "Remove the link: it could lead anywhere.")
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ""
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file" if stat.S_ISREG(found.st_mode) else "other"
    if entry.state in ("absent", "link"):
        return f"{entry.path}: {kind}\n"
    if kind != entry.kind:
        raise GpusteadError(f"{path} is of kind {kind!r}", f"a {entry.kind}", "Move it out of the way.")
    if found.st_uid != entry.owner:
        raise GpusteadError(
            f"{path} belongs to uid {found.st_uid}",
            f"uid {entry.owner}",
            "Give it to its owner on the NAS server (chown), or move it out of the way.",
        )
    head = f"{entry.path}: {kind} {found.st_uid}:{found.st_gid} {stat.S_IMODE(found.st_mode):04o}\n"
    if kind == "directory" or entry.content is None:
        return head
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not entry.secret:
        return head + text
    return head + ("(secret)\n" if text == entry.content else "(another secret)\n")


def apply(root: str, entry: Entry, before: str) -> None:
    """Bring the entry about, as whoever we are now."""
    path = os.path.join(root, entry.path)
    if entry.state == "absent":
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        return
    if entry.state == "link":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another node was faster
            os.symlink(entry.target, path)
        return
    if entry.state == "directory" and not before:
        with contextlib.suppress(FileExistsError):  # another node was faster
            os.mkdir(path, 0o700)
    elif entry.state == "file" and (entry.content is not None or not before):
        _write(path, entry, exclusive=entry.generate > 0)
    if os.geteuid() == 0 or os.lstat(path).st_gid != entry.group:
        os.chown(path, entry.owner, entry.group, follow_symlinks=False)
    os.chmod(path, entry.mode)


def _write(path: str, entry: Entry, exclusive: bool) -> None:
    content = entry.content if entry.content is not None else secrets.token_urlsafe(entry.generate)
    temporary = f"{path}.{secrets.token_hex(6)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.chown(temporary, entry.owner, entry.group)
        os.chmod(temporary, entry.mode)
        if not exclusive:
            os.replace(temporary, path)
            return
        with contextlib.suppress(FileExistsError):  # another node was faster: its token holds
            os.link(temporary, path)
        os.unlink(temporary)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def settle(root: str, entry: Entry, check: bool) -> Change:
    """Observe, plan and apply one entry, as whoever we are now."""
    before = observe(root, entry)
    if entry.state == "absent" or (entry.state == "existing" and not before):
        change = Change(before, "")
    elif before and entry.state == "link":
        change = Change(before, before)
    elif before and entry.generate:
        change = Change(before, describe(entry, None))
    else:
        change = Change(before, describe(entry, entry.content if not entry.generate else ""))
    if change.changed and not check:
        apply(root, entry, before)
    return change


def as_owner(work: Callable[[], Change], uid: int, gid: int, timeout: float) -> Change:
    """Do the work in a child with the owner's ids, which can be killed when the share does not answer.

    Raises:
        GpusteadError: what the work raised, or no answer in time.
        PermissionError: the owner may not.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _report(writer, work, uid, gid)
    os.close(writer)
    answer = b""
    try:
        while True:
            if not select.select([reader], [], [], timeout)[0]:
                os.kill(child, signal.SIGKILL)
                raise GpusteadError(
                    f"the share did not answer within {timeout:g} s", "an answer", "Look at the NAS and its mount."
                )
            part = os.read(reader, 65536)
            if not part:
                break
            answer += part
    finally:
        os.close(reader)
    os.waitpid(child, 0)
    said = json.loads(answer or b'{"error": ["the writing process died", "an answer", "Look at the system log."]}')
    if "denied" in said:
        raise PermissionError(errno.EACCES, said["denied"])
    if "error" in said:
        raise GpusteadError(*said["error"])
    return Change(said["before"], said["after"])


def _report(writer: int, work: Callable[[], Change], uid: int, gid: int) -> None:
    """The child's life: take the ids, work, write the outcome as JSON into the pipe, end."""
    said: dict[str, Any]
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o022)
        change = work()
        said = {"before": change.before, "after": change.after}
    except PermissionError as error:
        said = {"denied": str(error)}
    except GpusteadError as error:
        said = {"error": [error.what, error.expected, error.remedy]}
    except OSError as error:
        said = {"error": [str(error), "a share that can be written", "Look at the NAS and its mount."]}
    with os.fdopen(writer, "w") as pipe:
        json.dump(said, pipe)
    os._exit(0)


def settle_as_root(root: str, entry: Entry, check: bool) -> Change:
    """Settle one entry where root alone may write: in a directory of others a link could be put in its place meanwhile.

    Raises:
        PermissionError: somebody else may change a directory on the way.
    """
    folder = Path(root)
    for part in Path(entry.path).parts:
        found = folder.lstat()
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EACCES, f"{folder} can be changed by others than root")
        folder /= part
    return settle(root, entry, check)


def settle_all(root: str, entries: Iterable[Entry], check: bool, timeout: float = 60) -> list[Change]:
    """Settle entries in their order, each as its owner, or as root where only root may write."""
    changes = []
    for entry in entries:
        work = partial(settle, root, entry, check)
        try:
            changes.append(as_owner(work, entry.owner, entry.group, timeout))
        except PermissionError as denied:
            try:
                changes.append(as_owner(partial(settle_as_root, root, entry, check), 0, 0, timeout))
            except PermissionError:
                raise GpusteadError(
                    f"{os.path.join(root, entry.path)} cannot be written by uid {entry.owner}, nor by root: {denied}",
                    "a share on which its owner may write",
                    "On the NAS server, give the directory above it to that uid.",
                ) from None
    return changes
