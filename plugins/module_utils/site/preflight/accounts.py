# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts: ids, keys, groups, the one that owns the layout of the share, and the one that Ansible logs in as."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import authorized_keys
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import SERVICE_ACCOUNT
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    Problem,
    whole_number,
)

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_CRYPT = re.compile(r"([!*]+|\$(5|6|7|y|gy|2[abxy])\$[./A-Za-z0-9=,$]{20,})\Z")

Ids = tuple[str, int, int]  # name, uid and gid of an account


def check_users(host: HostVariables, required: bool) -> list[Ids]:
    accounts = []
    users = host.dicts("cluster_users")
    for user in users:
        account = _check_user(host, user)
        if account:
            accounts.append(account)
    host.problems.extend(clashes(accounts))
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


def _check_service_account(host: HostVariables, users: Sequence[Mapping[str, Any]]) -> None:
    """Whoever is it, or in its group, could rename and replace the directories of everybody on the share."""
    where = "cluster_service_account"
    service = {**SERVICE_ACCOUNT, **host.get(where, dict, {})}
    name, uid, gid = service["name"], whole_number(service["uid"]), whole_number(service["gid"])
    if not isinstance(name, str) or not _ACCOUNT.match(name) or name == "root":
        host.refuse(where, f"{name!r} cannot be the name of an account", "Use a-z, 0-9, _ and -, and not root.")
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
    if not isinstance(name, str) or not _ACCOUNT.match(name) or name == "root":
        refuse(
            f"{name!r} cannot be the name of an account",
            "Use up to 32 of a-z, 0-9, _ and -, beginning with a letter, and not root.",
        )
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
    for group in user.get("groups") or []:
        if not _ACCOUNT.match(group):
            refuse(f"{group!r}, a group of {name}, cannot be the name of a group", "Use a-z, 0-9, _ and -.")
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
    return name, uid, gid


def clashes(accounts: Sequence[Ids]) -> Iterator[Problem]:
    for name, count in Counter(name for name, _second, _third in accounts).items():
        if count > 1:
            uids = " and ".join(str(uid) for other, uid, _third in accounts if other == name)
            yield Problem("cluster_users", f"{name} is declared {count} times, with uid {uids}", "Keep one of them.")
    of_uid: dict[int, list[str]] = {}
    of_gid: dict[int, list[str]] = {}
    for name, uid, gid in dict.fromkeys(accounts):
        of_uid.setdefault(uid, []).append(name)
        of_gid.setdefault(gid, []).append(name)
    for kind, owners in (("uid", of_uid), ("gid", of_gid)):
        for number, names in owners.items():
            # Two accounts with one uid have one gid by default: reported once.
            if len(set(names)) > 1 and not (
                kind == "gid" and set(names) in [set(others) for others in of_uid.values()]
            ):
                whose = " and ".join(dict.fromkeys(names))
                what = f"the uid {number} belongs to {whose}"
                if kind == "gid":
                    what = f"the gid {number} would be the primary group of {whose}, which each have one of their own"
                yield Problem("cluster_users", what, f"Give each account a {kind} of its own.")
