# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files on a network share, as they should be, as they are, and what is to be done about them."""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity, steps
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown


@dataclass(frozen=True)
class ShareEntry:
    """One directory or file.

    Attributes:
        path: relative to the root of the share.
        state: directory, file, existing or existing_directory (put right and never made), link (made where nothing
            is, else left as it is) or absent.
        owner: uid that owns it and that does the writing.
        group: gid.
        mode: permission bits.
        content: what a file holds; None leaves the content of one that is there.
        generate: number of random bytes of a token that is written once; 0 for none.
        secret: whether the content must stay out of diffs.
        target: where a link leads; it need not be there.
        once: whether the content is only for a file that is not there yet. A directory is opened to others only while
            it is empty: in a place where several may write, one of them may have put another's in its stead.
        through: gid with which it is made, where that may write in the directory above; it gets its own afterwards.
        former: uids from which it is taken, should it belong to one of them.
        inherit: whether what is made in a directory gets its permissions for the group, whatever the umask (a default
            ACL); where the file system has none, that is left to the umask.
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
    once: bool = False
    through: int | None = None
    former: tuple[int, ...] = ()
    inherit: bool = False

    @property
    def kind(self) -> str:
        return {"existing": "file", "existing_directory": "directory"}.get(self.state, self.state)

    @property
    def made(self) -> bool:
        return not self.state.startswith("existing")

    @property
    def first(self) -> bool:
        """Whether what is there keeps its content."""
        return self.once or self.generate > 0


@dataclass(frozen=True)
class EntryChange:
    """What is there and what should be, as text for people; equal when there is nothing to do."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def visible(self) -> EntryChange:
        """The same for a terminal: what lay there is somebody else's text."""
        return EntryChange(
            *("".join(f"{shown(line)}\n" for line in text.splitlines()) for text in (self.before, self.after))
        )


@dataclass(frozen=True)
class Observed:
    """What is there: `kind` is empty for nothing; `inherits` None where the file system has no default ACLs."""

    kind: str = ""
    owner: int = -1
    group: int = -1
    mode: int = 0
    content: str | None = None
    names: int = 1
    inherits: bool | None = None

    def text(self, entry: ShareEntry) -> str:
        """In the form of a diff."""
        if not self.kind:
            return ""
        if entry.state in ("absent", "link"):
            return f"{entry.path}: {self.kind}\n"
        lacks = " without a default ACL" if entry.inherit and self.inherits is False else ""
        head = f"{entry.path}: {self.kind} {self.owner}:{self.group} {self.mode:04o}{lacks}\n"
        if self.content is None:
            return head
        if entry.secret:
            return head + ("(secret)\n" if self.content == entry.content else "(another secret)\n")
        return head + self.content


def parse(raw: Mapping[str, Any]) -> ShareEntry:
    """Make an entry of a module's argument; raises GpusteadError for one that cannot be meant."""
    path, state, mode = str(raw["path"]), raw["state"], str(raw.get("mode") or "")
    steps(path)
    target = str(raw.get("target") or "")
    if (state == "link") != bool(target):
        raise GpusteadError(f"{path}, a {state}", "a target for a link, and for nothing else", "Correct the entry.")
    if state not in ("absent", "link") and not re.fullmatch("[0-7]{3,4}", mode):
        raise GpusteadError(f"mode {mode!r} of {path}", "an octal mode such as '0644'", "Correct the entry.")
    content, generate = raw.get("content"), int(raw.get("generate") or 0)
    if state != "file" and (content is not None or generate):
        raise GpusteadError(f"{path}, a {state}", "content for a file that is made", "Leave content and generate out.")
    if state == "file" and (content is None) == (generate == 0):
        raise GpusteadError(f"file {path}", "either content or generate", "Give exactly one of them.")
    if generate and generate < 16:
        raise GpusteadError(f"generate {generate} for {path}", "at least 16 random bytes", "Ask for more.")
    through = raw.get("through")
    return ShareEntry(
        path,
        state,
        int(raw["owner"]),
        int(raw["group"]),
        int(mode, 8) if mode else 0,
        content,
        generate,
        bool(raw.get("secret")) or generate > 0,
        target,
        bool(raw.get("once")),
        None if through is None else int(through),
        tuple(int(uid) for uid in raw.get("former") or ()),
        bool(raw.get("inherit")),
    )


def default_acl(mode: int) -> bytes:
    """The value of system.posix_acl_default that gives new files the permissions of a directory with this mode."""
    entries = ((0x01, mode >> 6 & 7), (0x04, mode >> 3 & 7), (0x20, mode & 7))  # owner, group, others
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries)


def describe(entry: ShareEntry, content: str | None) -> str:
    """An entry as it should be, in the form of a diff."""
    if entry.state == "link":
        return f"{entry.path}: link to {entry.target}\n"
    head = f"{entry.path}: {entry.kind} {entry.owner}:{entry.group} {entry.mode:04o}\n"
    if entry.kind != "file" or content is None:
        return head
    return head + ("(secret)\n" if entry.secret else content)


def plan(entry: ShareEntry, found: Observed) -> EntryChange:
    """What is to be done about one entry."""
    before = found.text(entry)
    if entry.state == "absent" or (not entry.made and not found.kind):
        return EntryChange(before, "")
    if found.kind and entry.state == "link":
        return EntryChange(before, before)
    if found.kind and entry.first:
        return EntryChange(before, describe(entry, None))
    return EntryChange(before, describe(entry, "" if entry.generate else entry.content))


def foreseen(entry: ShareEntry) -> EntryChange:
    """What a check says where no share is mounted yet: all would be made."""
    return EntryChange("", describe(entry, entry.content))


def diff(entries: Iterable[ShareEntry], changes: Iterable[EntryChange]) -> list[dict[str, str]]:
    """What changes, as Ansible shows it."""
    return [
        {**asdict(change.visible()), "before_header": entry.path, "after_header": entry.path}
        for entry, change in zip(entries, changes)
        if change.changed
    ]


def must_be_written(entry: ShareEntry, found: Observed) -> bool:
    """Whether the file is to be written, rather than given other permissions."""
    if found.kind and entry.first:
        return False
    return (found.content, found.owner) != (entry.content, entry.owner)


def may_be_replaced(entry: ShareEntry, found: Observed) -> bool:
    """Whether it is what a former owner put in the place of a file that is written as a whole; it holds nothing."""
    whole = entry.state == "file" and not entry.first
    return whole and found.owner in entry.former and found.kind in ("link", "special file")


def how_to_move_away(path: str, uid: int, gid: int) -> str:
    """The remedy that moves something away as the owner of the directory above: in a sticky one nobody else may."""
    who = "" if uid == 0 else f"setpriv --reuid {uid} --regid {gid} --clear-groups "
    return f"Move it out of the way, as root: {who}mv {path} {path}.aside"


def how_to_make_on_server(entry: ShareEntry) -> str:
    """What does it on the NAS server."""
    ids = f"{entry.owner}:{entry.group}"
    if entry.kind == "directory":
        mode = f"{entry.mode:04o}"
        what = f"mkdir -p {entry.path} && chown {ids} {entry.path} && chmod {mode} {entry.path}"
        return f"On the NAS server, as root in the exported directory: {what}"
    return f"On the NAS server, give the directory above it to that uid, or the file: chown {ids} {entry.path}"


def root_problems(owner: Identity, uid: int, gid: int, mode: int) -> list[Refusal]:
    """The same of its ids and permission bits."""
    remedy = f"On the NAS server, in the exported directory: chown {owner} . && chmod 1775 ."
    if uid not in (0, owner.uid):
        what = f"belongs to uid {uid}, who can rename all that lies in it"
        return [Refusal(".", what, f"uid {owner.uid} or 0", remedy)]
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and gid != owner.gid):
        what = f"has mode {mode:04o} and group {gid}: accounts may write in it"
        return [Refusal(".", what, f"mode 1775 and group {owner.gid}, or 0755", remedy)]
    return []
