# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Users, groups and memberships: from the files, and from NSS only those that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
    lines_of,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.local_place import (
    Outcome,
    PlaceOwner,
    collect,
    digest,
)

_FOUND = (0, 2)  # what getent answers: all of them, not all of them


def _local(database: str, fields: int, host: Host) -> dict[str, list[str]]:
    text = host.text(f"/etc/{database}")
    if text is None:
        raise Unreadable(f"there is no /etc/{database}")
    entries = [line.split(":") for line in text.split("\n")]  # a GECOS may hold what Python takes for one
    # From the end: the first entry of a name is the one that counts.
    return {entry[0]: entry for entry in reversed(entries) if len(entry) == fields}


def passwd(host: Host) -> dict[str, list[str]]:
    return host.once("passwd", lambda host: _local("passwd", 7, host))


def _group(host: Host) -> dict[str, list[str]]:
    return host.once("group", lambda host: _local("group", 4, host))


def _shadow(host: Host) -> dict[str, list[str]]:
    return host.once("shadow", lambda host: _local("shadow", 9, host))


def _entries(database: str, local: dict[str, list[str]], names: Iterable[str], host: Host) -> dict[str, list[str]]:
    """The local entries, and of the other names those that NSS knows: a directory may hang, getent can be killed."""
    others = sorted({name for name in names if name not in local})
    if not others:
        return local
    out = host.must(["getent", "--", database, *others], codes=_FOUND)
    return {**{entry[0]: entry for entry in (line.split(":") for line in lines_of(out))}, **local}


def _password(name: str, host: Host) -> str:
    if name not in passwd(host):
        return "not local"
    field = _shadow(host)[name][1] if name in _shadow(host) else passwd(host)[name][1]
    if not field:
        return "none"
    return "locked" if field[0] in "!*" or field == "x" else host.digest(field.encode(), secret=True)


def users(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    known = _entries("passwd", passwd(host), (subject["name"] for subject in subjects), host)
    declared = {group for subject in subjects for group in subject.get("groups") or ()}
    groups_known = _entries("group", _group(host), declared, host) if declared else {}

    def user(subject: Subject, host: Host) -> Value:
        if subject["name"] not in known:
            return None
        name, _second, uid, gid, gecos, home, shell = known[subject["name"]]
        value = {"uid": int(uid), "gid": int(gid), "home": home, "shell": shell, "gecos": gecos}
        if "password" in subject.get("fields", ["password"]):
            value["password"] = _password(name, host)
        if "groups" in subject:
            wanted = subject["groups"] or ()
            value["groups"] = sorted(group for group in wanted if _within(known[name], groups_known.get(group)))
        # What is not declared is the user's own: chsh and passwd are for them.
        return {field: value[field] for field in subject.get("fields", value)}

    return each(user)(subjects, host)


def is_of_directory(name: str, host: Host) -> bool:
    """Whether an account, if there is one, is a directory service's: no role of ours takes it away."""
    return name not in passwd(host)


def _within(user: list[str] | None, group: list[str] | None) -> bool:
    if not user or not group:
        return False
    return user[0] in group[3].split(",") or user[3] == group[2]


def groups(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    known = _entries("group", _group(host), (subject["name"] for subject in subjects), host)
    return {name: {"gid": int(known[name][2])} if name in known else None for name in _names(subjects)}


def members(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    pairs = {name: name.partition(":")[::2] for name in _names(subjects)}
    known = _entries("passwd", passwd(host), (user for user, _second in pairs.values()), host)
    groups_known = _entries("group", _group(host), (group for _first, group in pairs.values()), host)
    holds = {name: _within(known.get(user), groups_known.get(group)) for name, (user, group) in pairs.items()}
    return {name: {"member": True} if held else None for name, held in holds.items()}


def _names(subjects: Sequence[Subject]) -> list[str]:
    return [subject["name"] for subject in subjects]


def _settings(subject: Subject, host: Host) -> Value:
    """One digest of an account's settings, read as by role workspace: with its ids (`as`), within limits."""
    uid, _separator, gid = str(subject["as"]).partition(":")
    account = PlaceOwner(subject["account"], int(uid), int(gid), host.path(subject["homes"]))
    outcome = Outcome()
    found = collect(account, subject["paths"], outcome)
    return {"count": len(found), "left_out": len(outcome.left_out), "sha256": digest(found)}


settings = each(_settings)
