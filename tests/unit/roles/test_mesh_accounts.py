# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The accounts in the mesh's container: from the list on the share, which role accounts writes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.accounts_plan import plan
from mesh_run import accounts, service
from mesh_run.accounts import Account, Group, People

PASSWD = """root:x:0:0:root:/root:/bin/bash
sshd:x:105:65534::/run/sshd:/usr/sbin/nologin
ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash
dan:x:1503:1503:gpustead:/home/dan:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nubuntu:x:1000:\ndan:x:1503:\nstaff:x:50:\nnogroup:x:65534:\n"
PEOPLE = People((Account("ada", 1500, 1600), Account("bob", 1000, 1000)), (Group("lab", 1600, ("bob",)),))
USERS: list[dict[str, Any]] = [
    {"name": "ada", "uid": 1500, "gid": 1600, "group": "lab"},
    {"name": "bob", "uid": 1501},
    {"name": "carol", "uid": 1502, "mesh": False},
    {"name": "exporter", "uid": 960, "system": True},
]


def written(users: list[dict[str, Any]]) -> People:
    layout = plan(users, "ada", {"name": "gpustead", "uid": 941, "gid": 941}, "/mnt/nas").layout
    (entry,) = [entry for entry in layout if entry["path"] == ".cluster/accounts/accounts.json"]
    assert (entry["owner"], entry["mode"]) == (941, "0644")
    return accounts.parse(entry["content"])


def test_what_role_accounts_writes_is_what_the_mesh_reads() -> None:
    found = written(USERS)
    assert found.accounts == (Account("ada", 1500, 1600), Account("bob", 1501, 1501))
    assert found.groups == (Group("lab", 1600, ()),)


def test_an_account_that_is_taken_off_is_out() -> None:
    assert accounts.gone(written(USERS).accounts, written(USERS[1:]).accounts) == {1500}


def test_the_container_has_no_other_people() -> None:
    text = accounts.passwd(PASSWD, PEOPLE, "/bin/zsh")
    assert text.splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "sshd:x:105:65534::/run/sshd:/usr/sbin/nologin",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
        "ada:*:1500:1600:gpustead:/home/ada:/bin/zsh",
        "bob:*:1000:1000:gpustead:/home/bob:/bin/zsh",
    ]
    assert accounts.passwd(text, PEOPLE, "/bin/zsh") == text


def test_groups_are_those_of_the_cluster_and_one_for_each_other_account() -> None:
    text = accounts.group(GROUP, PEOPLE)
    assert text.splitlines() == ["root:x:0:", "staff:x:50:", "nogroup:x:65534:", "bob:x:1000:", "lab:x:1600:bob"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "root:x:0:0::/:/bin/sh\nada"},
        {"name": "../ada"},
        {"uid": 0},
        {"uid": 65534},
        {"uid": 1501},
        {"gid": 4},
    ],
)
def test_a_list_that_would_make_somebody_another_is_none(change: dict[str, Any]) -> None:
    ada = {"name": "ada", "uid": 1500, "gid": 1500, **change}
    raw = {"schema": 1, "accounts": [ada, {"name": "bob", "uid": 1501, "gid": 1501}], "groups": []}
    with pytest.raises(ValueError):
        accounts.parse(json.dumps(raw))


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> service.Service:
    for name, text in {"passwd": PASSWD, "group": GROUP}.items():
        (tmp_path / name).write_text(text)
    real = service._replace
    ended: list[int] = []
    monkeypatch.setattr(service, "_replace", lambda path, text: real(tmp_path / path.name, text))
    monkeypatch.setattr(service, "make_place", lambda _account: None)
    monkeypatch.setattr(service, "end_all", ended.append)
    monkeypatch.setattr(accounts, "read", lambda: accounts.parse((tmp_path / "list").read_text()))
    monkeypatch.setenv("GPUSTEAD_USER", "ada")
    made = service.Service()
    made.base = {"passwd": PASSWD, "group": GROUP}
    vars(made).update(place=tmp_path, ended=ended)
    return made


def raw(*names: str) -> str:
    found = [
        {"name": name, "uid": 1500 + at, "gid": 1500 + at} for at, name in enumerate(("ada", "bob")) if name in names
    ]
    return json.dumps({"schema": 1, "accounts": found, "groups": []})


def test_whoever_is_off_the_list_is_out_with_all_that_runs(container: Any) -> None:
    (container.place / "list").write_text(raw("ada", "bob"))
    assert container.look()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == "bob:1501:1501"
    assert not container.look()  # nothing to be done where nothing has changed
    (container.place / "list").write_text(raw("ada"))
    assert container.look()
    assert container.ended == [1501]
    assert "bob" not in (container.place / "passwd").read_text()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "accounts": [{}]}'])
def test_a_list_that_cannot_be_read_lets_nobody_in_or_out(container: Any, text: str) -> None:
    (container.place / "list").write_text(raw("ada", "bob"))
    container.look()
    (container.place / "list").write_text(text)
    assert not container.look()
    assert container.environment()["GPUSTEAD_ACCOUNTS"] == "bob:1501:1501"
    assert container.ended == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to accounts")
def test_what_a_former_account_of_that_name_had_is_not_the_new_ones(tmp_path: Path) -> None:
    service.make_place(Account("ada", 64001, 64001), tmp_path)
    (tmp_path / "ada/secret").write_text("")
    service.make_place(Account("ada", 64001, 64001), tmp_path)
    assert (tmp_path / "ada/secret").exists()
    service.make_place(Account("ada", 64002, 64002), tmp_path)
    status = (tmp_path / "ada").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (64002, 0o700)
    assert not (tmp_path / "ada/secret").exists()


@pytest.mark.parametrize("name", ["root", "sshd", "nobody", "staff", "nogroup"])
def test_nobody_takes_the_name_of_an_account_of_the_systems(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        accounts.refuse_systems(People((Account(name, 1500, 1500),)), PASSWD, GROUP)
    group = f"{GROUP}{name}:x:90:\n"
    with pytest.raises(ValueError, match=name):
        accounts.refuse_systems(People((), (Group(name, 1600, ()),)), PASSWD, group)


def test_the_images_own_people_are_nobody_of_the_systems() -> None:
    accounts.refuse_systems(People((Account("ubuntu", 1500, 1500),), (Group("dan", 1503, ()),)), PASSWD, GROUP)
