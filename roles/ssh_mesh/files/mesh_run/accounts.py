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

from mesh_run import places

LIST = Path(os.environ.get("GPUSTEAD_MESH_ACCOUNTS", "/run/gpustead/accounts/accounts.json"))
MARK = "gpustead"  # in the comment of the accounts that are the cluster's, as the entrypoint makes them
_NAME = re.compile(r"(?!\d+\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")
_GROUP = re.compile(r"[^\s:,-][^:,]*(?<!\s)\Z")  # a directory has `domain users`


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
    groups = tuple(Group(_group(one), _id(one, "gid"), tuple(map(_like, one["members"]))) for one in raw["groups"])
    for values in ([one.name for one in accounts], [one.uid for one in accounts], [one.gid for one in groups]):
        if len(set(values)) < len(values):
            raise ValueError("a name or id stands there twice")
    return People(accounts, groups)


def is_persons(number: int) -> bool:
    """Whether an id is one of people, and not of the system."""
    return 1000 <= number < 1 << 31 and number not in (65534, 65535)


def _name(one: Mapping[str, Any]) -> str:
    return _like(one["name"])


def _group(one: Mapping[str, Any]) -> str:
    name = one["name"]
    if not isinstance(name, str) or not name.isprintable() or not _GROUP.match(name):
        raise ValueError(f"{name!r} is no name of a group")
    return name


def _like(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"{name!r} is no name")
    return name


def _id(one: Mapping[str, Any], key: str) -> int:
    number = int(one[key])
    if not is_persons(number):
        raise ValueError(f"{key} {number} of {one['name']} is none of an account")
    return number


def read(path: Path = LIST) -> People | None:
    """None where there is no list yet. Raises OSError and ValueError."""
    try:
        return parse(places.read(path))
    except FileNotFoundError:
        return None


def current(path: Path = LIST) -> Sequence[Account]:
    people = read(path)
    return people.accounts if people else ()


def without_systems(people: People, passwd_text: str, group_text: str) -> tuple[People, list[str]]:
    """The list without those with the name of an account or group of the system's, such as root or sshd; and these.

    Who else is on it is in the mesh all the same.
    """
    users, groups = (
        {fields[0] for fields in map(_fields, text.splitlines()) if len(fields) > 3 and not is_persons(int(fields[2]))}
        for text in (passwd_text, group_text)
    )
    left = People(
        tuple(one for one in people.accounts if one.name not in users | groups),
        tuple(one for one in people.groups if one.name not in groups),
    )
    out = {one.name for one in people.accounts if one not in left.accounts}
    return left, sorted(out | {one.name for one in people.groups if one not in left.groups})


def _fields(line: str) -> list[str]:
    return line.split(":")


def passwd(text: str, people: People, shell: str) -> str:
    """/etc/passwd with these accounts of the cluster, and no other people: neither the image's, nor former ones."""
    names = {one.name for one in people.accounts}

    def stays(fields: Sequence[str]) -> bool:
        ours = len(fields) < 7 or fields[4] == MARK or fields[0] in names
        return not ours and not is_persons(int(fields[2]))

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
        return len(fields) == 4 and fields[0] not in names and not is_persons(int(fields[2]))

    lines = [line for line in text.splitlines() if stays(line.split(":"))]
    lines += [f"{one.name}:x:{one.gid}:{','.join(one.members)}" for one in wanted.values()]
    return "".join(f"{line}\n" for line in lines)


def uid_of(name: str, passwd_text: str) -> int | None:
    """Of an account of the system's."""
    lines = map(_fields, passwd_text.splitlines())
    return next((int(fields[2]) for fields in lines if len(fields) > 3 and fields[0] == name), None)


def gone(before: Iterable[Account], now: Iterable[Account]) -> set[int]:
    """Uids of those who are in it no more, also where another one has the number now."""
    stay = {(one.name, one.uid) for one in now}
    return {one.uid for one in before if (one.name, one.uid) not in stay}
