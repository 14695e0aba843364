# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files of root's on a host, as they should be, as they are, and what is to be done about them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

_TRUE = ("true", "yes", "on", "1", "y", "t")


@dataclass(frozen=True)
class HostEntry:
    """One directory or file.

    Attributes:
        path: absolute.
        state: directory, file, existing (put right and never made), block (some lines of a file that is others' as
            well) or absent.
        owner, group: a name or a number.
        mode: permission bits.
        content: what a file holds, or the lines of a block; None leaves the content of a file that must be there.
        marker: what the lines around a block name.
        secret: whether the content must stay out of diffs and messages.
        once: whether the content is only for a file that is not there yet, or a directory that is there stays as it is.
        backup: whether a copy is kept of what is replaced.
        validate: command that must accept a file before it is put in its place; `%s` is the file, `%d` its directory,
            with the others that are given for the same one.
        exclusive: whether a directory is to hold nothing else than what is given.
    """

    path: str
    state: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0
    content: bytes | None = None
    marker: str = ""
    secret: bool = False
    once: bool = False
    backup: bool = False
    validate: tuple[str, ...] = ()
    exclusive: bool = False

    @property
    def follows(self) -> bool:
        """Whether a link in its place stands for what it leads to. Else it is replaced, or removed."""
        return self.state != "absent" and (self.state != "file" or self.content is None or self.once)


@dataclass(frozen=True)
class Observed:
    """What is there: `kind` is empty for nothing, `names` are what a directory holds."""

    kind: str = ""
    uid: int = -1
    gid: int = -1
    mode: int = 0
    content: bytes | None = None
    target: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is to be done about an entry, from `before` to `after`; equal when there is nothing to do."""

    entry: HostEntry
    before: Observed
    after: Observed

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def written(self) -> bool:
        """Whether the file is written as a whole, rather than given other permissions."""
        is_file = self.before.kind == self.after.kind == "file"
        return self.after.kind == "file" and not (is_file and self.before.content == self.after.content)

    def texts(self) -> tuple[str, str]:
        """Before and after in the form of a diff."""
        before, after = (_text(self.entry.path, found) for found in (self.before, self.after))
        if not self.entry.secret:
            return before, after
        hidden = [_text(self.entry.path, replace(found, content=None)) for found in (self.before, self.after)]
        other = "(another secret)\n" if self.before.content != self.after.content else "(secret)\n"
        return (
            hidden[0] + (other if self.before.content is not None else ""),
            hidden[1] + ("(secret)\n" if self.after.content is not None else ""),
        )


def _text(path: str, found: Observed) -> str:
    if not found.kind:
        return ""
    if found.kind == "link":
        return f"{path}: link to {found.target}\n"
    content = (found.content or b"").decode(errors="backslashreplace")
    return f"{path}: {found.kind} {found.uid}:{found.gid} {found.mode:04o}\n{content}"


def parse(raw: Mapping[str, Any]) -> HostEntry:
    """Make an entry of a module's argument; raises GpusteadError for one that cannot be meant."""
    path, state, mode = str(raw["path"]), str(raw["state"]), str(raw.get("mode") or "")
    content, marker, validate = raw.get("content"), str(raw.get("marker") or ""), tuple(raw.get("validate") or ())
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/" or "\0" in path:
        raise GpusteadError(f"path {path!r}", "an absolute path without '..'", "Correct the entry.")
    if state != "absent" and not re.fullmatch("[0-7]{3,4}", mode):
        raise GpusteadError(f"mode {mode!r} of {path}", "an octal mode such as '0644'", "Correct the entry.")
    if content is not None and state not in ("file", "block"):
        raise GpusteadError(f"{path}, {state}, with content", "content of a file or block", "Leave content out.")
    if (state == "block") != bool(marker) or (state == "block" and content is None):
        raise GpusteadError(f"{path}, {state}", "a marker and content for a block, and no marker else", "Correct it.")
    if raw.get("exclusive") and state != "directory":
        raise GpusteadError(f"{path}, {state}, exclusive", "a directory that is", "Leave exclusive out.")
    if validate and not any("%s" in word for word in validate):
        raise GpusteadError(f"validate {' '.join(validate)} of {path}", "%s in it, for the file", "Correct the entry.")
    return HostEntry(
        path,
        state,
        str(raw.get("owner") or "root"),
        str(raw.get("group") or "root"),
        int(mode, 8) if mode else 0,
        None if content is None else str(content).encode(errors="surrogateescape"),
        marker,
        bool(raw.get("secret")),
        bool(raw.get("once")),
        bool(raw.get("backup")),
        validate,
        bool(raw.get("exclusive")),
    )


def secrets(raw: Any) -> Iterator[str]:
    """The contents of secret entries in what a module was given, before anybody has looked at it."""
    for entry in raw if isinstance(raw, list) else []:
        content = entry.get("content") if isinstance(entry, dict) else None
        if content and str(entry.get("secret")).lower() in _TRUE:
            # As it is, and as it stands within a value that is printed.
            yield from {str(content), repr(str(content))[1:-1]}


def plan(entry: HostEntry, uid: int, gid: int, found: Observed) -> Plan:
    """What is to be done about one entry.

    Args:
        uid, gid: the ids of its owner and group.

    Raises:
        GpusteadError: something of another kind is there, or what must be there is not.
    """
    if entry.state == "absent":
        # What is left in a directory is somebody else's.
        return Plan(entry, found, found if found.names else Observed())
    kinds = {"directory": ("directory",), "existing": ("file", "directory")}.get(entry.state, ("file", "link"))
    if found.kind and found.kind not in kinds:
        raise GpusteadError(f"{entry.path} is a {found.kind}", f"a {kinds[0]}", "Move it out of the way.")
    content = _content(entry, found)
    if entry.once and found.kind == "directory":
        return Plan(entry, found, found)
    if not found.kind and (entry.state == "existing" or (entry.state == "block" and content == b"")):
        return Plan(entry, found, found)
    if not found.kind and entry.state == "file" and content is None:
        raise GpusteadError(f"the file {entry.path} is not there", "it to be", "See what should have made it.")
    kind = "file" if found.kind in ("", "link") and entry.state != "directory" else found.kind or "directory"
    return Plan(entry, found, Observed(kind, uid, gid, entry.mode, content, names=found.names))


def _content(entry: HostEntry, found: Observed) -> bytes | None:
    """What the file is to hold."""
    if entry.state == "block":
        return merged(found.content or b"", entry.marker, entry.content or b"")
    keeps = entry.state != "file" or entry.content is None or (entry.once and found.kind == "file")
    return found.content if keeps else entry.content


def merged(content: bytes, marker: str, block: bytes) -> bytes:
    """A file with these lines between its markers, as ansible.builtin.blockinfile has it: at the end where new.

    Args:
        marker: what both lines around the block name; `# BEGIN …` and `# END …` in front.
        block: the lines; empty removes block and markers.
    """
    lines = content.splitlines(keepends=True)
    begin, end = (f"# {word} {marker}\n".encode() for word in ("BEGIN", "END"))
    bare = [line.rstrip(b"\r\n") + b"\n" for line in lines]
    first, last = (
        max((number for number, line in enumerate(bare) if line == mark), default=-1) for mark in (begin, end)
    )
    place = len(lines)
    if min(first, last) >= 0:
        place = min(first, last)
        del lines[place : max(first, last) + 1]
    if block:
        if place > 0 and not lines[place - 1].endswith(b"\n"):
            lines[place - 1] += b"\n"
        lines[place:place] = [begin, block if block.endswith(b"\n") else block + b"\n", end]
    return b"".join(lines)
