# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may log in as an account by key: what becomes of the text of its `~/.ssh/authorized_keys`."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

# sshd's default: two files.
FOLDER, FILE, SECOND = ".ssh", "authorized_keys", "authorized_keys2"

_TYPES = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")


@dataclass(frozen=True)
class DesiredKeys:
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
    def identity(self) -> Identity:
        return Identity(self.uid, self.gid, self.groups)


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


def path_of(home: str, name: str = FILE) -> str:
    return f"{home.rstrip('/')}/{FOLDER}/{name}"


def supplementary(name: str, group_text: str) -> tuple[int, ...]:
    """The groups of an account by the text of /etc/group: a directory service could hang."""
    rows = (line.split(":") for line in group_text.split("\n"))
    return tuple(int(row[2]) for row in rows if len(row) == 4 and row[2].isdigit() and name in row[3].split(","))


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


def is_one(line: str) -> bool:
    """Whether it is one line with a whole key."""
    bare = line.strip()
    return bare.isprintable() and not bare.startswith("#") and parse(bare) is not None


def check(name: str, line: str) -> str:
    """A declared line, without blanks around it; raises GpusteadError for what is not one line with a whole key."""
    bare = line.strip()
    if not is_one(bare):
        remedy = "Paste the one line of a .pub file, such as ssh-ed25519 AAAA… ada@laptop."
        raise GpusteadError(f"key {shown(bare, 40)!r} of '{name}'", "one line with a whole public SSH key", remedy)
    return bare


def plan(text: str, desired: DesiredKeys) -> str:
    """What the file holds afterwards. Comments stay, and so do other people's keys where they may.

    A declared key stands there once, with its declared options: sshd goes on to a second line of a key whose first one
    does not let it in.
    """
    declared = {parse(line): line for line in desired.keys}
    former = {parse(line) for line in desired.former} - {None}
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
        elif not bare or bare.startswith("#") or not (desired.exclusive or key in former):
            kept.append(line)
    kept += [line for key, line in declared.items() if key not in placed]
    return text if kept == lines else "".join(f"{line}\n" for line in kept)


def compare(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines that go and those that come."""
    old, new = Counter(before.split("\n")), Counter(after.split("\n"))
    return tuple(line for line in old - new if line), tuple(line for line in new - old if line)
