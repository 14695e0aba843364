"""Homes on a share on which root is nobody. A mount that cannot be written stands for it: access(2) says the same."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import observe_accounts, share_homes
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_accounts import apply
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    Account,
    Group,
    HostAccounts,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import find_insecure_homes
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.share_homes import closed_homes, closed_roots
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.uid_match import DesiredAccount, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and asks as root")
SQUASHED = "nas:/home (nfs4) on /home"


def account(name: str, **more: Any) -> DesiredAccount:
    return DesiredAccount(**{"name": name, "uid": 1500, "gid": 1500, "group": name, **more})


@pytest.fixture
def home(namespace: None) -> Iterator[Path]:
    """A share with the home of ada, in a place to which only root can change the way."""
    place = Path(f"/var/lib/gpustead-test-{os.getpid()}")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "nas:/home", place], check=True)
    (place / "ada").mkdir(mode=0o700)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


def test_only_a_home_that_is_to_be_made_is_in_the_way(home: Path) -> None:
    there = f"nas:/home (tmpfs) on {home}"
    asked = [str(home / name) for name in ("ada", "zoe", "not/there")]
    assert closed_homes(asked) == {asked[1]: there, asked[2]: there}
    assert closed_homes(["/var/lib/gpustead-test-none", "/"]) == closed_homes([]) == {}
    found = find_insecure_homes([account("ada", home=asked[0]), account("zoe", home=asked[1])])
    assert str(found.pop("zoe")) == (
        f"home {home}/zoe of 'zoe' is not there, and root cannot make it on {there}: expected a home that is there, or"
        f" a place where root may write. Make it on the server (mkdir {home}/zoe; chown 1500:1500 {home}/zoe; chmod 700"
        f" {home}/zoe), export it with no_root_squash, or declare another home of the account."
    )
    assert found == {}


def test_what_an_automounter_shows_is_nobodys_to_make(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"/": Mounted("/", "8:1", "/", ("rw",), (), "autofs", "/etc/auto.home")}
    monkeypatch.setattr(share_homes, "mounted", lambda: seen)
    assert closed_homes(["/nowhere/zoe"]) == {"/nowhere/zoe": "/etc/auto.home (autofs) on /"}


def test_where_root_may_write_nothing_it_gives_nothing_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One that is read-only for all is another matter: there is nothing to be changed.
    assert closed_roots([str(home), "/var/lib", "/nowhere"]) == {}
    monkeypatch.setattr(share_homes, "_may_write", lambda path: path == "/var/lib")
    assert [*closed_roots(["/var/lib", "/usr"])] == ["/usr"]


def test_a_share_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_homes, "_SECONDS", 0.2)
    monkeypatch.setattr(share_homes, "_is_closed_home", lambda _home: time.sleep(60))
    with pytest.raises(GpusteadError, match="/home/zoe"):
        closed_homes(["/home/zoe"])


def test_an_account_is_refused_before_anything_is_changed_and_the_others_are_made() -> None:
    ada = Account("ada", 1001, 1001, "", "/home/ada", "/bin/sh")
    host = HostAccounts(accounts=(ada,), groups=(Group("ada", 1001),), closed_roots={"/home": SQUASHED})
    refused: list[Refusal] = []
    assert [one.desired.name for one in plan(host, [account("ada"), account("zoe", uid=1501, gid=1501)], refused)] == [
        "zoe"
    ]
    assert str(refused[0]).startswith(
        f"files of 'ada' below /home cannot be given to 1500:1500 on {SQUASHED}: expected"
    )
    assert plan(host, [account("ada", roots=("/data",))])[0].renumbering
    assert not plan(replace(host, closed_roots={}), [account("ada", uid=1001, gid=1001)])[0].changed


def test_roots_are_asked_about_only_for_who_is_renumbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc").mkdir()
    for name, text in (("passwd", "ada:x:1001:1001::/home/ada:/bin/sh\n"), ("group", ""), ("shadow", "")):
        (tmp_path / "etc" / name).write_text(text)
    asked: list[list[str]] = []

    def nothing(roots: list[str]) -> dict[str, str]:
        asked.append(roots)
        return {}

    monkeypatch.setattr(observe_accounts, "closed_roots", nothing)
    for uid in (1001, 1500):
        declared = [account("ada", uid=uid, gid=uid, roots=("/home", "/data"))]
        observe_accounts.observe(lambda _argv, _data: (2, "", ""), declared, tmp_path / "state", tmp_path)
    assert asked == [[], ["/data", "/home"]]


def test_an_account_without_its_home_is_taken_back(tmp_path: Path) -> None:
    """Of a share that says it could be written, and then does not let root (GlusterFS with server.root-squash)."""
    said: list[str] = []

    def run(argv: Sequence[str], _data: str) -> tuple[int, str, str]:
        said.append(argv[0])
        return (12, "", "useradd: cannot create directory") if argv[0] == "useradd" else (0, "", "")

    refused: list[Refusal] = []
    assert apply(run, plan(HostAccounts(), [account("zoe")]), tmp_path, refused) == []
    assert said == ["groupadd", "useradd", "userdel"]
    assert "home /home/zoe of 'zoe' is not there, and root cannot make it" in refused[0].what
