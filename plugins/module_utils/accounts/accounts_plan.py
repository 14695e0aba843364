# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role accounts wants of a host and of the share, from the declared accounts and what is known of them so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import common_place
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import SECOND, path_of
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.common_place import Common
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import FIRST_USER_ID
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import layout

User = Mapping[str, Any]
# What uid_match has no use for.
KEY_OPTIONS = ("ssh_keys", "exclusive_keys", "mesh")
# Of an account on the NAS server: role nas takes it.
OF_THE_SHARE = ("quota",)
# What a receipt looks at where it is declared, by the name of the option.
RECEIPT_FIELDS = {"home": "home", "shell": "shell", "comment": "gecos", "password_hash": "password"}


@dataclass(frozen=True)
class Plan:
    """What the tasks of the role take, and what its receipt holds.

    Attributes:
        problems: what is wrong with the declarations; then nothing else counts.
        layout_owner: uid and gid of the account that the layout of the share belongs to.
        service_account: that account, as module uid_match takes it.
        users: the declared accounts, as module uid_match takes them.
        former: names of the accounts that the role kept last time, and that are no longer declared.
        authorized_keys: the accounts whose keys are the role's to change, as the module of that name takes them.
        layout: the directories of all on the share, as module nas_files takes them.
        declared_directories: those of users, with the declared ids.
        directories: those of users, with the ids that the accounts have on the host.
        receipt: subjects by kind.
    """

    problems: list[str]
    layout_owner: dict[str, int]
    service_account: dict[str, Any]
    users: list[dict[str, Any]]
    former: list[str]
    authorized_keys: list[dict[str, Any]]
    layout: list[dict[str, Any]]
    declared_directories: list[dict[str, Any]]
    directories: list[dict[str, Any]]
    receipt: dict[str, list[dict[str, Any]]]


def plan(
    users: Sequence[User],
    owner: str,
    service_account: Mapping[str, Any],
    share: str = "",
    *,
    known: Sequence[Mapping[str, Any]] | None = None,
    refused: Sequence[Mapping[str, Any]] = (),
    previous: Sequence[Sequence[Any]] = (),
    common: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan the accounts of a host.

    Args:
        users: the declared accounts, with all that module uid_match takes, `ssh_keys` and `exclusive_keys`.
        owner: name of the one that owns the directory `shared`.
        service_account: name, uid and gid of the account that the layout of the share belongs to.
        share: where the share is mounted; empty where this host makes nothing on it.
        known: the accounts as they are on the host (`users` of module uid_match); None: not known yet.
        refused: what of the declared directories is another's (`refused` of module nas_files).
        previous: what the role left last time, as (kind, subject) (`previous` of module receipt_write).
        common: `group`, `directories`, `datasets` and `caches`, as module common_place takes them.

    Raises:
        GpusteadError: a group of `common` cannot be.
    """
    shares = common_place.parse(common or {})
    users = [_with_groups(user, shares) for user in users]
    named = {str(user["name"]): user for user in users if user.get("name")}
    layout_owner = layout.Owner.of(service_account)
    accounts = known or []
    shared = _layout(users, named.get(owner, {}), layout_owner, shares) if share else []
    if share:
        shared.append(_mesh_list(named, accounts, layout_owner, users, shares))
    directories = _directories(accounts, layout_owner)
    return Plan(
        problems=[
            *_mistaken(users),
            *_strangers(shares, named),
            *_clashes(shares, users),
            *(_no_owner(owner, named) if share else []),
        ],
        layout_owner=asdict(layout_owner),
        service_account=_service_account(str(service_account["name"]), layout_owner),
        users=_to_match(named, refused, previous),
        former=_former(named, previous),
        authorized_keys=_authorized_keys(named, accounts, previous),
        layout=shared,
        declared_directories=_directories(users, layout_owner),
        directories=directories,
        receipt={
            "user": _user_subjects(named, users if known is None else known),
            "lines": _key_subjects(named, users if known is None else known),
            "file": [] if known is None or not share else _share_subjects(share, owner, shared, directories),
        },
    )


def _mistaken(users: Sequence[User]) -> list[str]:
    names = [user.get("name") for user in users]
    ids = [str(user["uid"]) for user in users if user.get("uid") is not None]
    if all(names) and len(set(names)) == len(names) and len(set(ids)) == len(ids):
        return []
    found = ", ".join(f"{user.get('name', '?')} {user.get('uid', '')}".strip() for user in users)
    return [
        f"Two accounts of accounts_users (cluster_users) have the same name or uid ({found}), or one has no name:"
        " give each its own."
    ]


def _strangers(common: Common, named: Mapping[str, User]) -> list[str]:
    return [
        f"Group {group.name} has member {name}, which is none of accounts_users (cluster_users): correct its members."
        for group in common.groups
        for name in group.members or ()
        if name not in named
    ]


def _clashes(common: Common, users: Sequence[User]) -> list[str]:
    """Groups of the cluster of which an account has the name or the gid for its own: a gid would have two names."""
    found = []
    for group in common.groups:
        own = [(str(user.get("group") or user.get("name")), _gid({"uid": None, **user})) for user in users]
        other = [(name, gid) for name, gid in own if gid and (name == group.name) != (int(gid) == group.gid)]
        found += [
            f"Group {group.name} is declared with gid {group.gid}, and accounts have a group {name} with gid {gid}:"
            " give it a name and a gid of its own."
            for name, gid in other[:1]
        ]
    return found


def _with_groups(user: User, common: Common) -> User:
    """The account, in the groups of the cluster that it is in, too: they have the same gid on all hosts."""
    every = [group for group in common.groups if group.has(str(user.get("name")))]
    # A system account is in those that name it.
    ids = {group.name: group.gid for group in every if group.members is not None or not user.get("system")}
    if not ids:
        return user
    return {**user, "groups": [*dict.fromkeys([*(user.get("groups") or []), *ids])], "group_ids": ids}


def _no_owner(owner: str, named: Mapping[str, User]) -> list[str]:
    if named.get(owner, {}).get("uid") is not None:
        return []
    accounts = ", ".join(named) or "none"
    return [
        f"accounts_owner '{owner}' is not an account of accounts_users ({accounts}) with a uid: add it to"
        " cluster_users, or correct cluster_owner."
    ]


def _service_account(name: str, owner: layout.Owner) -> dict[str, Any]:
    return {
        "name": name,
        **asdict(owner),
        "system": True,
        "home": "/nonexistent",
        "shell": "/usr/sbin/nologin",
        "comment": "Layout of the cluster's share",
    }


def _to_match(
    named: Mapping[str, User], refused: Sequence[Mapping[str, Any]], previous: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """An account must not be renumbered while its directory on the share is another's."""
    given: dict[str, list[str]] = {}
    for kind, subject in previous:
        if kind == "user":
            given.setdefault(subject["name"], []).extend(subject.get("groups") or [])
    held = {str(one["name"]): str(one["what"]) for one in refused}
    return [
        {
            **{key: value for key, value in user.items() if key not in (*KEY_OPTIONS, *OF_THE_SHARE)},
            "former_groups": sorted(set(given.get(name, [])) - set(user.get("groups") or [])),
            "hold": held.get(f"{layout.USERS}/{name}", ""),
        }
        for name, user in named.items()
    ]


def _former(named: Mapping[str, User], previous: Sequence[Sequence[Any]]) -> list[str]:
    kept = [subject["name"] for kind, subject in previous if kind == "user" and "service" not in subject]
    return sorted(set(kept) - set(named))


def _authorized_keys(
    named: Mapping[str, User], known: Sequence[Mapping[str, Any]], previous: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """Those that have keys, may have no others, or had some that are not declared any more."""
    before = {subject["name"]: subject.get("lines", []) for kind, subject in previous if kind == "lines"}
    result = []
    for account in known:
        lines, exclusive = _keys(named.get(account["name"], {}))
        former = [line for line in before.get(path_of(account["home"]), []) if line not in lines]
        if account.get("exists", True) and (lines or former or exclusive):
            ids = {part: account[part] for part in ("name", "uid", "gid", "home")}
            result.append({**ids, "keys": lines, "former": former, "exclusive": exclusive})
    return result


def _keys(user: User) -> tuple[list[str], bool]:
    return list(user.get("ssh_keys") or []), bool(user.get("exclusive_keys"))


def _layout(users: Sequence[User], owner: User, layout_owner: layout.Owner, common: Common) -> list[dict[str, Any]]:
    options = layout.entry_options(layout_owner, users)
    entries = [
        {"path": path, "state": "directory", "mode": mode, **options}
        for path, mode in layout.DIRECTORIES.items()
        if path != layout.MESH  # role ssh_mesh makes it
    ]
    return entries + common_place.entries(common, owner, layout_owner, options["former"])


def _mesh_list(
    named: Mapping[str, User],
    known: Sequence[Mapping[str, Any]],
    layout_owner: layout.Owner,
    users: Sequence[User],
    common: Common,
) -> dict[str, Any]:
    """Who may be in the mesh, with the ids there. Its containers read it: who is off it is out of them."""
    found = {account["name"]: account for account in known}
    accounts: list[dict[str, Any]] = []
    groups: dict[int, dict[str, Any]] = {}
    for name, user in named.items():
        ids = {**found.get(name, {}), **{key: user[key] for key in ("uid", "gid") if user.get(key) is not None}}
        if user.get("mesh") is False or user.get("system") or int(ids.get("uid") or 0) < FIRST_USER_ID:
            continue
        gid = int(_gid(ids if user.get("gid") is not None or user.get("uid") is None else {"uid": ids["uid"]}))
        accounts.append({"name": name, "uid": int(ids["uid"]), "gid": gid})
        if user.get("group") and gid >= FIRST_USER_ID:
            groups[gid] = {"name": str(user["group"]), "gid": gid, "members": []}
    for group in common.groups:
        members = [account["name"] for account in accounts if group.has(account["name"])]
        groups[group.gid] = {"name": group.name, "gid": group.gid, "members": members}
    content = json.dumps({"schema": 1, "accounts": accounts, "groups": list(groups.values())}, indent=1) + "\n"
    options = layout.entry_options(layout_owner, users)
    return {"path": layout.ACCOUNT_LIST, "state": "file", "mode": layout.FILE_MODE, "content": content, **options}


def _directories(accounts: Sequence[Mapping[str, Any]], layout_owner: layout.Owner) -> list[dict[str, Any]]:
    return [
        _directory(f"{layout.USERS}/{account['name']}", account, "0700", layout_owner)
        for account in accounts
        if account.get("name") and int(account.get("uid") or 0) >= FIRST_USER_ID
    ]


def _directory(path: str, account: Mapping[str, Any], mode: str, layout_owner: layout.Owner) -> dict[str, Any]:
    return {
        "path": path,
        "state": "directory",
        "owner": int(account["uid"]),
        "group": int(_gid(account)),
        "mode": mode,
        "through": layout_owner.gid,
    }


def _gid(account: Mapping[str, Any]) -> Any:
    gid = account.get("gid")
    return account["uid"] if gid is None else gid


def _user_subjects(named: Mapping[str, User], accounts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for account in accounts:
        declared = named.get(account.get("name", ""))
        if declared is None:
            continue
        result.append(
            {
                "name": account["name"],
                "account": account["name"],  # chsh, chfn and passwd are for it
                "groups": list(declared.get("groups") or []),
                "fields": ["uid", "gid", "groups", *(RECEIPT_FIELDS[key] for key in RECEIPT_FIELDS if key in declared)],
                "expect": {part: account.get(part, "") for part in ("uid", "gid")},
            }
        )
    return result


def _key_subjects(named: Mapping[str, User], accounts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each file is looked at as its account, below its home and through no link."""
    result = []
    for account in accounts:
        lines, exclusive = _keys(named.get(account.get("name", ""), {}))
        if not (lines or exclusive) or account.get("uid") is None:
            continue
        home = account.get("home") or f"/home/{account['name']}"
        ids = f"{account['uid']}:{_gid(account)}"
        # Said, not only compared with what was: the account can undo it before the first look.
        expect = {**({"mode": "0600", "owner": ids} if lines else {}), **({"others": 0} if exclusive else {})}
        result.append(
            {
                "name": path_of(home),
                "account": account["name"],
                "below": home,
                "as": ids,
                "lines": lines,
                "exclusive": exclusive,
                "keep": True,
                "expect": expect,
                **({"beside": [path_of(home, SECOND)]} if exclusive else {}),
            }
        )
    return result


def _share_subjects(
    share: str, owner: str, shared: Sequence[Mapping[str, Any]], directories: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What lies on the share is there once for all nodes; each directory is looked at as its owner."""
    own = {one["path"]: str(one["path"]).rpartition("/")[2] for one in directories}
    ids = {one["path"]: f"{one['owner']}:{one['group']}" for one in shared}
    ids.update({one["path"]: one["owner"] for one in directories})
    return [
        {"name": f"{share}/{path}", "as": whose, "keep": True, "account": {"shared": owner, **own}.get(path, "")}
        for path, whose in ids.items()
    ]
