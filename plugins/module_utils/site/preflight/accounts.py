# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts: ids, keys, groups, the one that owns the layout of the share, and the one that Ansible logs in as."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import authorized_keys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.names import (
    FIXED_GROUPS,
    FORM,
    RESERVED,
    is_group,
    is_name,
    reserved,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import SERVICE_ACCOUNT
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    Problem,
    whole_number,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.mounts import SYSTEM_DIRECTORIES

_CRYPT = re.compile(r"([!*]+|\$(5|6|7|y|gy|2[abxy])\$[./A-Za-z0-9=,$]{20,})\Z")

_NO_HOMES = frozenset(("", *(f"/{name}" for name in SYSTEM_DIRECTORIES)))

Ids = tuple[str, int, int, str]  # of an account: name, uid, gid, and name of its primary group


def check_users(host: HostVariables, required: bool) -> list[Ids]:
    accounts = []
    users = host.dicts("cluster_users")
    for user in users:
        account = _check_user(host, user)
        if account:
            accounts.append(account)
    host.problems.extend(clashes(accounts))
    _check_homes(host, users)
    _check_service_account(host, users)
    names = [str(user.get("name")) for user in users]
    if required and not users and host.ok("cluster_users"):
        host.refuse("cluster_users", "is empty", "Declare at least the account that owns the workspace: name and uid.")
    owner = host.get("cluster_owner", str, "")
    if owner and owner not in names and "cluster_users" not in host.refused:
        host.refuse(
            "cluster_owner",
            f"{owner!r} is no account of cluster_users ({', '.join(names) or 'which is empty'})",
            "Add it there, or name another.",
        )
    return accounts


def _check_homes(host: HostVariables, users: Sequence[Mapping[str, Any]]) -> None:
    owners: dict[str, list[str]] = {}
    for user in users:
        name = str(user.get("name"))
        if not is_name(name):
            continue  # told already
        for key, example in (("home", f"/home/{name}"), ("shell", "/bin/bash")):
            path = user.get(key)
            if isinstance(path, str) and path and not re.match(r"/[^\s:]*[^\s:/]/?\Z", path):
                host.refuse(
                    "cluster_users", f"{key} of {name} is {path!r}, no absolute path", f"Write it as {example}."
                )
        home = str(user.get("home") or f"/home/{name}").rstrip("/")
        if home in _NO_HOMES:
            what = f"home of {name} is {home!r}, which is a directory of the system"
            host.refuse("cluster_users", what, f"Write it as /home/{name}.")
        owners.setdefault(home, []).append(name)
    for home, names in owners.items():
        if len(set(names)) > 1:
            what = f"{' and '.join(names)} have one home, {home}"
            host.refuse("cluster_users", what, "Give each account a home of its own.")


def _check_service_account(host: HostVariables, users: Sequence[Mapping[str, Any]]) -> None:
    """Whoever is it, or in its group, could rename and replace the directories of everybody on the share."""
    where = "cluster_service_account"
    service = {**SERVICE_ACCOUNT, **host.get(where, dict, {})}
    name, uid, gid = service["name"], whole_number(service["uid"]), whole_number(service["gid"])
    if not is_name(name):
        host.refuse(where, f"{name!r} cannot be the name of an account", f"Use {FORM}.")
    elif reserved(name):
        host.refuse(where, reserved(name), "Choose another one.")
    for key, number in (("uid", uid), ("gid", gid)):
        if number is None or not 0 < number < 1000:
            host.refuse(where, f"{key} is {service[key]!r}", "Choose one from 1 to 999, as a system account has it.")
    for user in users:
        who = user.get("name")
        groups = user.get("groups")
        taken = [
            what
            for what, is_it in (
                ("its name", who == name),
                ("its uid", uid is not None and whole_number(user.get("uid")) == uid),
                ("its gid", gid is not None and whole_number(user.get("gid", user.get("uid"))) == gid),
                ("its group", name in ([*groups] if isinstance(groups, list) else []) or user.get("group") == name),
            )
            if is_it
        ]
        if taken:
            host.refuse(
                "cluster_users",
                f"{who} has {' and '.join(taken)} of the account {name} ({uid}:{gid}), the owner of the share's layout",
                "Give the account others, or set cluster_service_account.",
            )


def check_login(host: HostVariables, read: Callable[[str], str]) -> None:
    """Keys that keep the controller out, where that can be told without a login."""
    login = host.get("ansible_user", str, "")
    for user in host.dicts("cluster_users"):
        if not login or user.get("name") != login or not user.get("exclusive_keys"):
            continue
        given = user.get("ssh_keys") if isinstance(user.get("ssh_keys"), list) else []
        declared = {authorized_keys.parse(line.strip()) for line in given or [] if isinstance(line, str)} - {None}
        own: bytes | None = None
        file = _private_key(host)
        if file:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                own = authorized_keys.parse(read(f"{os.path.expanduser(file)}.pub").strip())
        if not declared or (own and own not in declared):
            what = f"that of {file}.pub is not among" if declared else "there is none in"
            host.refuse(
                "cluster_users",
                f"Ansible logs in as {login} (ansible_user), who has exclusive_keys, and {what} its ssh_keys",
                "Add the controller's public key there: else nobody gets in any more.",
            )


def _private_key(host: HostVariables) -> str:
    names = ("ansible_ssh_private_key_file", "ansible_private_key_file")
    return next((host.get(name, str, "") for name in names if host.get(name, str, "")), "")


def _check_user(host: HostVariables, user: Mapping[str, Any]) -> Ids | None:
    def refuse(what: str, remedy: str) -> None:
        host.refuse("cluster_users", what, remedy)

    name = user.get("name")
    if not isinstance(name, str) or not is_name(name):
        refuse(f"{name!r} cannot be the name of an account", f"Use {FORM}.")
        return None
    if reserved(name):
        refuse(reserved(name), "Choose another one: the account would get what that package's user or group may.")
        return None
    uid, gid = whole_number(user.get("uid")), whole_number(user.get("gid", user.get("uid")))
    for key, number in (("uid", uid), ("gid", gid)):
        if number is None or not 0 < number < 2**31 or number in (65534, 65535):
            value = user.get(key, "missing")
            refuse(
                f"{key} of {name} is {value!r}" if key in user else f"{name} has no {key}", f"Give it a {key}, as 1500."
            )
            return None
    if uid is None or gid is None:  # refused above
        return None
    if uid < 1000 and user.get("system") is not True:
        refuse(
            f"{name} has the uid {uid}, below 1000, where the system keeps its own accounts",
            "Choose one from 1000 up, or set system: true for this account.",
        )
    group = _check_groups(host, user, name, gid)
    for number, key in enumerate(user.get("ssh_keys") or [], 1):
        if not authorized_keys.is_one(key):
            # It may be a private one, or a password: not shown.
            refuse(
                f"number {number} of ssh_keys of {name} (not shown) is not a whole public SSH key",
                "Paste the one line of a .pub file, such as ssh-ed25519 AAAA… ada@laptop.",
            )
    hashed = user.get("password_hash")
    if hashed and not (isinstance(hashed, str) and _CRYPT.match(hashed)):
        refuse(
            f"password_hash of {name} is not a crypt(3) string",  # its value may be a password: not shown
            "Make one with mkpasswd or the filter password_hash and a fixed salt; it begins with $6$ or $y$.",
        )
    return name, uid, gid, group


def _check_groups(host: HostVariables, user: Mapping[str, Any], name: str, gid: int) -> str:
    """Look at the groups of an account; returns its primary one."""
    primary = user.get("group") or name
    if not is_group(primary):
        what = f"{primary!r}, the primary group of {name}, cannot be the name of a group"
        host.refuse("cluster_users", what, "Write it as getent group does.")
    elif primary in RESERVED - FIXED_GROUPS.keys() and gid >= 1000:
        host.refuse(
            "cluster_users",
            f"the primary group of {name}, {primary}, is one that the system or a package has, and the gid is {gid}",
            "Declare another group, and this one in groups where the account is to be in it.",
        )
    for group in user.get("groups") or []:
        if not is_name(group):
            what = f"{group!r}, a group of {name}, cannot be the name of a group"
            host.refuse("cluster_users", what, f"Use {FORM}.")
    return str(primary)


def clashes(accounts: Sequence[Ids]) -> Iterator[Problem]:
    """Names and ids that stand for several things. A primary group may have several accounts, under one name."""
    told = set()  # what these have in common besides follows from that
    for name, count in Counter(name for name, *_ids in accounts).items():
        if count > 1:
            told.add(name)
            uids = " and ".join(str(uid) for other, uid, _gid, _group in accounts if other == name)
            yield Problem("cluster_users", f"{name} is declared {count} times, with uid {uids}", "Keep one of them.")
    for uid, names in _several((uid, name) for name, uid, _gid, _group in accounts):
        told |= set(names)
        yield Problem(
            "cluster_users", f"the uid {uid} belongs to {' and '.join(names)}", "Give each account a uid of its own."
        )
    groups = [(gid, group) for name, _uid, gid, group in accounts if name not in told]
    fixed = [(gid, group) for group, gid in FIXED_GROUPS.items()]
    for gid, names in _several((*groups, *fixed)):
        yield Problem(
            "cluster_users",
            f"the gid {gid} would have several names, {' and '.join(names)}: each primary group has one",
            "Give each a gid of its own, or name the group that all of them have, as getent does (group: staff).",
        )
    for group, gids in _several((group, gid) for gid, group in (*groups, *fixed)):
        yield Problem(
            "cluster_users",
            f"the group {group} would have several gids, {' and '.join(map(str, gids))}",
            "Declare the gid that it has.",
        )


def _several(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    """What has more than one of something."""
    found: dict[Any, dict[Any, None]] = {}
    for one, other in pairs:
        found.setdefault(one, {})[other] = None
    return [(one, [*others]) for one, others in found.items() if len(others) > 1]
