"""What role accounts wants of a host and of the share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.filter.accounts_plan import accounts_plan
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.accounts_plan import Plan, plan
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

KEY, OLD_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample ada@laptop", "ssh-ed25519 AAAAold ada@desk"
ADA: dict[str, Any] = {
    "name": "ada",
    "uid": 1500,
    "groups": ["ml"],
    "shell": "/bin/zsh",
    "password_hash": "$6$a$b",
    "ssh_keys": [KEY],
    "exclusive_keys": True,
    "quota": "1T",  # role nas takes it
}
# As -e gives numbers.
BOB: dict[str, Any] = {"name": "bob", "uid": "1501", "gid": 1600, "home": "/data/bob", "comment": "Bob"}
SVC: dict[str, Any] = {"name": "svc", "uid": 960, "system": True}
# Of a directory service, or with the ids that the share shows.
EVE: dict[str, Any] = {"name": "eve", "path": "/mnt/nas/users/eve", "ssh_keys": []}
USERS = [ADA, BOB, SVC, EVE]
KNOWN = [
    {"name": "ada", "uid": 1500, "gid": 1500, "home": "/home/ada", "exists": True, "changed": False},
    {"name": "bob", "uid": 1501, "gid": 1600, "home": "/data/bob", "exists": False, "changed": True},
    {"name": "svc", "uid": 960, "gid": 960, "home": "/home/svc", "exists": True, "changed": False},
    {"name": "eve", "uid": 1502, "gid": 1502, "home": "/home/eve", "exists": True, "changed": False},
]
PREVIOUS: list[Sequence[Any]] = [
    ["user", {"name": "gpustead", "service": True}],
    ["user", {"name": "carol", "uid": 1503}],
    ["user", {"name": "ada"}],
    ["lines", {"name": "/home/ada/.ssh/authorized_keys", "lines": [KEY, OLD_KEY]}],
    ["lines", {"name": "/home/eve/.ssh/authorized_keys", "lines": [OLD_KEY]}],
    ["file", {"name": "/mnt/nas/users"}],
]
SERVICE = {"name": "gpustead", "uid": 941, "gid": "942"}
KEYS_OF_ADA: dict[str, Any] = {
    "name": "/home/ada/.ssh/authorized_keys",
    "account": "ada",
    "below": "/home/ada",
    "as": "1500:1500",
    "lines": [KEY],
    "exclusive": True,
    "keep": True,
    "beside": ["/home/ada/.ssh/authorized_keys2"],
    "expect": {"mode": "0600", "owner": "1500:1500", "others": 0},
}


def planned(users: Sequence[Mapping[str, Any]] = USERS, owner: str = "bob", **answers: Any) -> Plan:
    return plan(users, owner, SERVICE, "/mnt/nas", **answers)


def directory(name: str, uid: int, gid: int) -> dict[str, Any]:
    return {
        "path": f"users/{name}",
        "state": "directory",
        "owner": uid,
        "group": gid,
        "mode": "0700",
        "through": 942,
    }


def subject(name: str, uid: Any, gid: Any, *fields: str, groups: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "account": name,
        "groups": list(groups),
        "fields": ["uid", "gid", "groups", *fields],
        "expect": {"uid": uid, "gid": gid},
    }


def test_the_share_belongs_to_the_service_account_and_shared_to_the_owner() -> None:
    common = {"state": "directory", "owner": 941, "group": 942, "former": [1500, 1501, 960]}
    *directories, mesh = planned().layout
    assert directories == [
        {"path": ".cluster", "mode": "0755", **common},
        {"path": ".cluster/nodes", "mode": "0755", **common},
        {"path": ".cluster/accounts", "mode": "0755", **common},
        {"path": "users", "mode": "1775", **common},
        {"path": "shared", "mode": "2775", "state": "directory", "owner": 1501, "group": 1600, "through": 942},
    ]
    content = mesh.pop("content")
    assert mesh == {"path": ".cluster/accounts/accounts.json", "mode": "0644", **common, "state": "file"}
    assert [(one["name"], one["uid"], one["gid"]) for one in json.loads(content)["accounts"]] == [
        *(("ada", 1500, 1500), ("bob", 1501, 1600))
    ]
    assert planned().layout_owner == {"uid": 941, "gid": 942}
    assert planned().service_account == {
        "name": "gpustead",
        "uid": 941,
        "gid": 942,
        "system": True,
        "home": "/nonexistent",
        "shell": "/usr/sbin/nologin",
        "comment": "Layout of the cluster's share",
    }


COMMON = {
    "group": {"name": "cluster", "gid": 1400},
    "directories": [{"name": "vision", "gid": 1410, "members": ["bob"]}],
}


def test_all_people_are_in_the_group_of_the_cluster_with_its_gid() -> None:
    found = planned(common=COMMON, known=KNOWN)
    assert {user["name"]: (user.get("groups", []), user.get("group_ids", {})) for user in found.users} == {
        "ada": (["ml", "cluster"], {"cluster": 1400}),
        "bob": (["cluster", "vision"], {"cluster": 1400, "vision": 1410}),
        "svc": ([], {}),
        "eve": (["cluster"], {"cluster": 1400}),
    }
    assert [one["groups"] for one in found.receipt["user"]] == [
        ["ml", "cluster"],
        ["cluster", "vision"],
        [],
        ["cluster"],
    ]
    *_directories, mesh = found.layout
    groups = {one["name"]: one["members"] for one in json.loads(mesh["content"])["groups"]}
    assert groups == {"cluster": ["ada", "bob", "eve"], "vision": ["bob"]}
    assert [(one["group"], one.get("inherit")) for one in found.layout if one["path"] == "shared"] == [(1400, True)]


def test_a_member_that_is_no_account_is_a_problem() -> None:
    common = {"datasets": {"name": "data", "gid": 1401, "members": ["zoe"]}}
    assert "Group data has member zoe" in planned(common=common).problems[0]


def test_a_system_account_is_in_the_groups_that_name_it() -> None:
    common = {**COMMON, "datasets": {"name": "data", "gid": 1401, "members": ["svc"]}}
    users = {user["name"]: user for user in planned(common=common).users}
    assert (users["svc"]["groups"], users["svc"]["group_ids"]) == (["data"], {"data": 1401})


CLASHES = {
    "the name of an account": ({"name": "ada", "gid": 1400}, "accounts have a group ada with gid 1500"),
    "the gid of an account": ({"name": "cluster", "gid": 1500}, "accounts have a group ada with gid 1500"),
    "a gid that is declared": ({"name": "cluster", "gid": "1600"}, "accounts have a group bob with gid 1600"),
    "a group that all have": ({"name": "bob", "gid": 1600}, ""),
}


@pytest.mark.parametrize("case", CLASHES)
def test_a_group_that_is_an_accounts_own_is_a_problem(case: str) -> None:
    group, words = CLASHES[case]
    problems = planned(common={"group": group}).problems
    assert len(problems) == bool(words) and words in "".join(problems)


def test_directories_are_of_people_with_the_ids_that_are_known() -> None:
    found = planned(known=KNOWN)
    assert found.declared_directories == [directory("ada", 1500, 1500), directory("bob", 1501, 1600)]
    assert found.directories == [*found.declared_directories, directory("eve", 1502, 1502)]
    assert planned(known=KNOWN[:1]).directories == [directory("ada", 1500, 1500)]  # the others were refused


def test_an_account_whose_directory_is_anothers_keeps_its_ids_and_no_key_is_matched() -> None:
    refused = [{"name": "users/bob", "what": "users/bob belongs to uid 7"}, {"name": "users", "what": "x"}]
    assert planned(refused=refused).users == [
        {
            **{"name": "ada", "uid": 1500, "groups": ["ml"], "shell": "/bin/zsh", "password_hash": "$6$a$b"},
            **{"former_groups": [], "hold": ""},
        },
        {**BOB, "former_groups": [], "hold": "users/bob belongs to uid 7"},
        {**SVC, "former_groups": [], "hold": ""},
        {"name": "eve", "path": "/mnt/nas/users/eve", "former_groups": [], "hold": ""},
    ]


def test_groups_that_are_declared_no_more_are_former_ones() -> None:
    """Also where runs have left no receipt since."""
    previous = [["user", {"name": "ada", "groups": groups}] for groups in (["docker", "ml"], ["gpu"])]
    found = {user["name"]: user["former_groups"] for user in planned(previous=[*previous, *PREVIOUS]).users}
    assert found == {"ada": ["docker", "gpu"], "bob": [], "svc": [], "eve": []}


def test_who_is_declared_no_more_goes_and_the_service_account_stays() -> None:
    assert planned(previous=PREVIOUS).former == ["carol"]
    assert planned([], previous=PREVIOUS).former == ["ada", "carol"]
    assert planned().former == []


def test_keys_are_changed_where_some_are_declared_or_were() -> None:
    ada: dict[str, Any] = {"name": "ada", "uid": 1500, "gid": 1500, "home": "/home/ada"}
    eve: dict[str, Any] = {"name": "eve", "uid": 1502, "gid": 1502, "home": "/home/eve"}
    assert planned(known=KNOWN, previous=PREVIOUS).authorized_keys == [
        {**ada, "keys": [KEY], "former": [OLD_KEY], "exclusive": True},
        {**eve, "keys": [], "former": [OLD_KEY], "exclusive": False},
    ]
    absent = [{**KNOWN[0], "exists": False}]  # in a --check
    assert planned(known=absent, previous=PREVIOUS).authorized_keys == []
    assert planned().authorized_keys == []


def test_a_receipt_before_the_accounts_are_known() -> None:
    assert planned().receipt == {
        "user": [
            subject("ada", 1500, "", "shell", "password", groups=["ml"]),
            subject("bob", "1501", 1600, "home", "gecos"),
            subject("svc", 960, ""),
            subject("eve", "", ""),
        ],
        "lines": [KEYS_OF_ADA],
        "file": [],
    }


def test_a_receipt_at_the_end() -> None:
    found = planned(known=KNOWN).receipt
    assert found["user"] == [
        subject("ada", 1500, 1500, "shell", "password", groups=["ml"]),
        subject("bob", 1501, 1600, "home", "gecos"),
        subject("svc", 960, 960),
        subject("eve", 1502, 1502),
    ]
    assert found["lines"] == [KEYS_OF_ADA]
    ours = (".cluster", ".cluster/nodes", ".cluster/accounts", "users")
    owners = {
        **dict.fromkeys(ours, "941:942"),
        "shared": "1501:1600",
        ".cluster/accounts/accounts.json": "941:942",
    }
    people = {"users/ada": 1500, "users/bob": 1501, "users/eve": 1502}
    accounts = {"shared": "bob", "users/ada": "ada", "users/bob": "bob", "users/eve": "eve"}
    assert found["file"] == [
        {"name": f"/mnt/nas/{path}", "as": owner, "keep": True, "account": accounts.get(path, "")}
        for path, owner in {**owners, **people}.items()
    ]


def test_a_host_that_makes_nothing_on_the_share_says_nothing_of_it() -> None:
    found = plan([], "", SERVICE, "", known=[])
    assert (found.problems, found.layout, found.receipt["file"]) == ([], [], [])


PROBLEMS: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "one name": ([ADA, {"name": "ada", "uid": 7}], "ada", "the same name or uid (ada 1500, ada 7), or one has no name"),
    "one uid": ([ADA, {"name": "zoe", "uid": "1500"}], "ada", "the same name or uid (ada 1500, zoe 1500)"),
    "no name": ([ADA, {"uid": 7}], "ada", "(ada 1500, ? 7), or one has no name: give each its own"),
    "no owner": ([ADA], "zoe", "accounts_owner 'zoe' is not an account of accounts_users (ada) with a uid"),
    "an owner without a uid": ([EVE], "eve", "'eve' is not an account of accounts_users (eve) with a uid"),
    "nobody": ([], "", "'' is not an account of accounts_users (none) with a uid: add it to cluster_users"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_cannot_be_meant_is_a_problem(case: str) -> None:
    users, owner, words = PROBLEMS[case]
    (problem,) = planned(users, owner).problems
    assert words in problem
    assert planned().problems == []


def test_the_role_gives_its_settings_and_what_it_has_learnt(tmp_path: Path) -> None:
    refused = [{"name": "users/bob", "what": "users/bob belongs to uid 7"}]
    settings = {
        "cluster_users": USERS,
        "cluster_service_account": {"gid": "942"},
        "cluster_owner": "bob",
        "__accounts_receipt": {"previous": PREVIOUS},
        "__accounts_asked": {"refused": refused},
        "__accounts_done": {"users": KNOWN},
    }
    names = ["__accounts_plan", "__accounts_vouches_for_share"]
    found = render(tmp_path, "accounts", names, {"gpu_nodes": ["a"]}, settings)
    expected = planned(known=KNOWN, previous=PREVIOUS, refused=refused)
    of_role = {name: value for name, value in vars(expected).items() if name != "problems"}
    assert found == {"__accounts_plan": of_role, "__accounts_vouches_for_share": True}


def test_the_role_ends_with_what_is_wrong_before_anything_is_changed() -> None:
    with pytest.raises(AnsibleFilterError, match="the same name or uid"):
        accounts_plan([ADA, {"name": "ada", "uid": 7}], "ada", SERVICE, "/mnt/nas")
