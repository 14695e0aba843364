"""local_place: real accounts' files, and what they may lay in root's way on their node."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import local_place
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.local_place import PlaceOwner

UID, OTHER = 61500, 61501
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def account(tmp_path: Path) -> PlaceOwner:
    """An account with a home that others may pass, and a directory of all places whose path is root's."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    home = tmp_path / "home/ada"
    home.mkdir(parents=True)
    os.chown(home, UID, UID)
    return PlaceOwner("ada", UID, UID, str(tmp_path / "home"))


@pytest.fixture
def top(account: PlaceOwner) -> Path:
    """Not below /tmp, which anybody may write to."""
    name = f"/var/lib/gpustead-test-{os.getpid()}"
    local_place.make_top(name, check=False)
    return Path(name)


@pytest.fixture(autouse=True)
def cleared() -> object:
    yield
    subprocess.run(["rm", "-rf", f"/var/lib/gpustead-test-{os.getpid()}"], check=True)


def mine(path: Path, content: str = "mine\n", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    for one in (path, *path.parents):
        if one.name == "ada":
            break
        os.chown(one, UID, UID)
    return path


def test_the_place_is_the_accounts_and_nobody_elses_enters(top: Path, account: PlaceOwner) -> None:
    done = local_place.apply(str(top), account, ["cache"], None, check=False)
    assert (done.refused, len(done.changes)) == (None, 2)
    assert stat.S_IMODE(top.stat().st_mode) == 0o700
    assert ((top / "ada/cache").stat().st_uid, stat.S_IMODE((top / "ada").stat().st_mode)) == (UID, 0o700)
    assert local_place.apply(str(top), account, ["cache"], None, check=False).changes == []
    assert local_place.make_top(str(top), check=False) == []
    top.chmod(0o777)
    assert len(local_place.make_top(str(top), check=True)) == 1
    assert len(local_place.make_top(str(top), check=False)) == 1
    assert stat.S_IMODE(top.stat().st_mode) == 0o700
    (top / ".settings").rmdir()
    (top / ".settings").symlink_to(top)
    with pytest.raises(GpusteadError, match="settings, on the way"):
        local_place.make_top(str(top), check=False)


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "another's"])
def test_root_never_changes_what_an_account_puts_there(
    top: Path, account: PlaceOwner, tmp_path: Path, kind: str
) -> None:
    local_place.apply(str(top), account, ["cache"], None, check=False)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    cache = top / "ada/cache"
    cache.rmdir()
    if kind == "link":
        cache.symlink_to(victim)
    elif kind == "file":
        mine(cache)
    elif kind == "fifo":
        os.mkfifo(cache)
    else:
        cache.mkdir()
        os.chown(cache, OTHER, OTHER)
    before = cache.lstat()
    done = local_place.apply(str(top), account, ["cache", "more"], None, check=False)
    assert done.refused is not None
    assert str(cache) in done.refused.what
    assert done.refused.remedy
    assert victim.stat().st_uid == 0
    assert (cache.lstat().st_uid, cache.lstat().st_mode) == (before.st_uid, before.st_mode)


def test_a_path_that_others_can_change_is_no_top(tmp_path: Path) -> None:
    with pytest.raises(GpusteadError, match="on the way"):
        local_place.make_top("/tmp/places", check=True)
    with pytest.raises(GpusteadError, match="on the way"):
        (tmp_path / "link").symlink_to("/var/lib")
        local_place.make_top(str(tmp_path / "link/x"), check=True)


def test_settings_are_copied_as_they_are_and_follow(top: Path, account: PlaceOwner) -> None:
    home = Path(account.homes) / "ada"
    mine(home / ".gitconfig", "[user]\n")
    mine(home / ".git-credentials", "secret\n", 0o600)
    mine(home / ".config/nvim/lua/a.lua", "x\n", 0o755)
    settings = [".gitconfig", ".git-credentials", ".config/nvim", ".nothing"]
    done = local_place.apply(str(top), account, [], settings, check=False)
    assert (done.settings, done.left_out) == (settings[:3], [])
    copies = top / ".settings/ada"
    assert (copies / ".gitconfig").read_text() == "[user]\n"
    modes = {path: stat.S_IMODE((copies / path).stat().st_mode) for path in (*settings[:3], ".config/nvim/lua/a.lua")}
    assert modes == {
        **{".gitconfig": 0o444, ".git-credentials": 0o400, ".config/nvim": 0o755},
        **{".config/nvim/lua/a.lua": 0o555},
    }
    assert (copies / ".git-credentials").stat().st_uid == UID
    assert (copies / ".config/nvim").stat().st_uid == 0
    assert local_place.apply(str(top), account, [], settings, check=False).changes == []
    mine(home / ".gitconfig", "[other]\n")
    (home / ".config/nvim/lua/a.lua").unlink()
    (home / ".git-credentials").unlink()
    inode = copies.stat().st_ino
    assert local_place.apply(str(top), account, [], settings, check=False).settings == [".gitconfig", ".config/nvim"]
    assert (copies / ".gitconfig").read_text() == "[other]\n"
    assert sorted(path.name for path in copies.rglob("*")) == [".config", ".gitconfig", "lua", "nvim"]
    assert copies.stat().st_ino == inode
    assert local_place.forget_others(str(top), ["ada"], check=False) == []
    assert len(local_place.forget_others(str(top), ["bob"], check=False)) == 1
    assert (list((top / ".settings").iterdir()), (top / "ada").is_dir()) == ([], True)


def fifo(home: Path, _top: Path) -> None:
    os.mkfifo(home / ".x")


def to_a_secret(home: Path, top: Path) -> None:
    (top / "secret").write_text("root's\n")
    (home / ".x").symlink_to(top / "secret")


def to_everything(home: Path, _top: Path) -> None:
    (home / ".x").symlink_to("/")


def a_link_inside(home: Path, _top: Path) -> None:
    mine(home / ".x/a")
    (home / ".x/b").symlink_to("/etc/shadow")


def large(home: Path, _top: Path) -> None:
    with (home / ".x").open("wb") as file:
        file.truncate(1 << 33)


def many(home: Path, _top: Path) -> None:
    (home / ".x").mkdir()
    for number in range(local_place.ENTRIES + 1):
        (home / f".x/{number}").touch()


def deep(home: Path, _top: Path) -> None:
    (home / ("/".join([".x"] * 40))).mkdir(parents=True)


def closed(home: Path, _top: Path) -> None:
    (home / ".x").write_text("root's\n")
    (home / ".x").chmod(0o600)


ATTACKS: list[Callable[[Path, Path], None]] = [
    fifo,
    to_a_secret,
    to_everything,
    a_link_inside,
    large,
    many,
    deep,
    closed,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_setting_is_left_out_and_named(
    top: Path, account: PlaceOwner, attack: Callable[[Path, Path], None]
) -> None:
    home = Path(account.homes) / "ada"
    mine(home / ".gitconfig", "[user]\n")
    attack(home, top)
    done = local_place.apply(str(top), account, [], [".x", ".gitconfig"], check=False)
    assert (done.settings, done.refused) == ([".gitconfig"], None)
    assert len(done.left_out) == 1
    assert str(home / ".x") in done.left_out[0]
    assert sorted(path.name for path in (top / ".settings/ada").rglob("*")) == [".gitconfig"]


def test_who_stops_what_reads_as_them_has_no_more_than_the_time_of_one(
    account: PlaceOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_given: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(local_place, "SECONDS", 1)
    monkeypatch.setattr(local_place, "_collect", stopped)
    outcome, began = local_place.Outcome(), time.monotonic()
    assert local_place.collect(account, [".a", ".b", ".c", ".d"], outcome) == {}
    assert time.monotonic() - began < 2.5
    assert [".a did not answer" in outcome.left_out[0], ".d was not read" in outcome.left_out[3]] == [True, True]


def test_the_receipt_reads_settings_as_the_account(account: PlaceOwner) -> None:
    home = Path(account.homes) / "ada"
    about = {"name": str(home), "as": f"{UID}:{UID}", "account": "ada", "homes": account.homes, "paths": [".gitconfig"]}

    def seen() -> object:
        return observe([("settings", about)], Host())[f"settings {home}"]

    mine(home / ".gitconfig", "[user]\n")
    first = seen()
    assert isinstance(first, dict)
    assert (first["count"], first["left_out"]) == (1, 0)
    mine(home / ".gitconfig", "[other]\n")
    second = seen()
    assert first != second
    (home / ".gitconfig").unlink()
    (home / ".gitconfig").symlink_to("/etc/shadow")
    third = seen()
    assert isinstance(third, dict)
    assert (third["count"], third["left_out"]) == (0, 1)
