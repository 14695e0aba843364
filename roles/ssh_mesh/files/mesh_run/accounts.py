# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The accounts of the mesh, as role accounts leaves them on the share, and as the container has them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(os.environ.get("GPUSTEAD_MESH_ACCOUNTS", "/run/gpustead/accounts/accounts.json"))
MARK = "gpustead"  # in the comment of the accounts that are the cluster's, as the entrypoint makes them
PEOPLE = range(1000, 60000)  # ids that an image may have given to accounts of its own
_SIZE = 1 << 22  # bytes
_NAME = re.compile(r"(?!\d+\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Group:
    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class People:
    """Who may be in the mesh, and the groups that they have there."""

    accounts: tuple[Account, ...] = ()
    groups: tuple[Group, ...] = ()


def parse(text: str) -> People:
    """What role accounts has written. Raises ValueError for what it would not."""
    raw: Any = json.loads(text)
    if not isinstance(raw, dict) or raw.get("schema") != 1:
        raise ValueError("it is no list of accounts")
    accounts = tuple(Account(_name(one), _id(one, "uid"), _id(one, "gid")) for one in raw["accounts"])
    groups = tuple(Group(_name(one), _id(one, "gid"), tuple(map(str, one["members"]))) for one in raw["groups"])
    for values in ([one.name for one in accounts], [one.uid for one in accounts], [one.gid for one in groups]):
        if len(set(values)) < len(values):
            raise ValueError("a name or id stands there twice")
    return People(accounts, groups)


def _name(one: Mapping[str, Any]) -> str:
    if not _NAME.match(str(one["name"])):
        raise ValueError(f"{one['name']!r} is no name")
    return str(one["name"])


def _id(one: Mapping[str, Any], key: str) -> int:
    number = int(one[key])
    if number < PEOPLE[0] or number >= 1 << 31 or number in (65534, 65535):
        raise ValueError(f"{key} {number} of {one['name']} is none of an account")
    return number


def read(path: Path = LIST) -> People | None:
    """None where there is no list yet. Raises OSError and ValueError."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(_SIZE).decode())
    except FileNotFoundError:
        return None


def current(path: Path = LIST) -> Sequence[Account]:
    people = read(path)
    return people.accounts if people else ()


def refuse_systems(people: People, passwd_text: str, group_text: str) -> None:
    """Raises ValueError for one with the name of an account or group of the system's, such as root or sshd."""
    for kind, text, wanted in (
        ("account", passwd_text, {one.name for one in people.accounts}),
        ("group", group_text, {*(one.name for one in people.accounts), *(one.name for one in people.groups)}),
    ):
        lines = (line.split(":") for line in text.splitlines())
        systems = {fields[0] for fields in lines if len(fields) > 3 and int(fields[2]) not in PEOPLE}
        if systems & wanted:
            raise ValueError(f"{', '.join(sorted(systems & wanted))} is the name of a system's {kind}")


def passwd(text: str, people: People, shell: str) -> str:
    """/etc/passwd with these accounts of the cluster, and no other people: neither the image's, nor former ones."""
    names, uids = {one.name for one in people.accounts}, {one.uid for one in people.accounts}

    def stays(fields: Sequence[str]) -> bool:
        ours = len(fields) < 7 or fields[4] == MARK or fields[0] in names
        return not ours and int(fields[2]) not in PEOPLE and int(fields[2]) not in uids

    lines = [line for line in text.splitlines() if stays(line.split(":"))]
    lines += [f"{one.name}:*:{one.uid}:{one.gid}:{MARK}:/home/{one.name}:{shell}" for one in people.accounts]
    return "".join(f"{line}\n" for line in lines)


def group(text: str, people: People) -> str:
    """/etc/group likewise: with the groups of the cluster, and one of its own for each account's that has no other."""
    declared = {one.gid: one for one in people.groups}
    own = [Group(one.name, one.gid, ()) for one in people.accounts if one.gid not in declared]
    wanted = {one.gid: one for one in (*own, *people.groups)}
    names = {one.name for one in wanted.values()}

    def stays(fields: Sequence[str]) -> bool:
        return len(fields) == 4 and fields[0] not in names and int(fields[2]) not in {*wanted, *PEOPLE}

    lines = [line for line in text.splitlines() if stays(line.split(":"))]
    lines += [f"{one.name}:x:{one.gid}:{','.join(one.members)}" for one in wanted.values()]
    return "".join(f"{line}\n" for line in lines)


def gone(before: Iterable[Account], now: Iterable[Account]) -> set[int]:
    """Uids of those who are in it no more."""
    return {one.uid for one in before} - {one.uid for one in now}
