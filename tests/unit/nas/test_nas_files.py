"""nas_files: real directories, real owners, as root and as others."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import apply_nas_files
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all, is_mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import (
    Observed,
    ShareEntry,
    parse,
    root_problems,
)
from ansible_collections.gpustead.cluster.tests.unit.silent_mount import silent

ADA, BOB = 61500, 61501
Trap = Callable[[Path, Path], None]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def share() -> Iterator[Path]:
    """A share whose root belongs to ada; not below pytest's directory, which another run closes to all but root."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o711)
        root = Path(top, "share")
        root.mkdir()
        os.chown(root, ADA, ADA)
        yield root


def folder(path: str, owner: int = ADA, mode: int = 0o755) -> ShareEntry:
    return ShareEntry(path, "directory", owner, owner, mode)


def file(path: str, content: str, owner: int = ADA, mode: int = 0o644, secret: bool = False) -> ShareEntry:
    return ShareEntry(path, "file", owner, owner, mode, content, 0, secret)


REFUSED: dict[str, dict[str, object]] = {
    "a path that leads out": {"path": "../etc", "state": "directory", "mode": "0755"},
    "an absolute path": {"path": "/etc", "state": "directory", "mode": "0755"},
    "no path": {"path": "", "state": "directory", "mode": "0755"},
    "a mode that is not octal": {"path": "a", "state": "directory", "mode": "rwx"},
    "no mode": {"path": "a", "state": "directory", "mode": None},
    "a file of nothing": {"path": "a", "state": "file", "mode": "0600"},
    "content and token": {"path": "a", "state": "file", "mode": "0600", "content": "x", "generate": 32},
    "content of what only has to exist": {"path": "a", "state": "existing", "mode": "0600", "content": "x"},
    "a link to nowhere": {"path": "a", "state": "link", "mode": None},
    "a file that leads somewhere": {"path": "a", "state": "file", "mode": "0600", "content": "x", "target": "b"},
    "a short token": {"path": "a", "state": "file", "mode": "0600", "generate": 4},
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_entries_are_refused(case: str) -> None:
    with pytest.raises(GpusteadError):
        parse({"owner": 1500, "group": 1500, **REFUSED[case]})


@needs_root
def test_entries_are_made_once_by_their_owners(share: Path) -> None:
    entries = [folder("users", mode=0o1777), folder("users/bob", BOB, 0o700), file("users/bob/a", "hello\n", BOB)]
    assert [change.changed for change in apply_all(str(share), entries, check=True)] == [True] * 3
    assert list(share.iterdir()) == []
    assert [change.changed for change in apply_all(str(share), entries, check=False)] == [True] * 3
    assert [change.changed for change in apply_all(str(share), entries, check=False)] == [False] * 3
    made = share / "users/bob/a"
    assert (made.read_text(), made.stat().st_uid, made.stat().st_gid) == ("hello\n", BOB, BOB)
    assert stat.S_IMODE((share / "users").stat().st_mode) == 0o1777
    assert [path.name for path in (share / "users/bob").iterdir()] == ["a"]


@needs_root
def test_what_another_node_has_just_replaced_is_looked_at_again(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, stale = apply_nas_files.observe, [OSError(errno.ESTALE, "Stale file handle")]

    def observe(root: str, entry: ShareEntry) -> Observed:
        if stale:
            raise stale.pop()
        return real(root, entry)

    monkeypatch.setattr(apply_nas_files, "observe", observe)
    apply_all(str(share), [file("list", "new")], check=False)
    assert (share / "list").read_text() == "new"


@needs_root
def test_new_files_are_the_groups_whatever_the_umask(share: Path) -> None:
    entry = ShareEntry("common", "directory", ADA, BOB, 0o2775, inherit=True)
    try:
        (first,) = apply_all(str(share), [entry], check=False)
        os.getxattr(share / "common", "system.posix_acl_default")
    except OSError as error:
        pytest.skip(f"no default ACLs here: {error}")
    assert first.changed
    subprocess.run(["sh", "-c", "umask 077; touch made; mkdir place"], cwd=share / "common", check=True)
    assert [oct((share / "common" / name).stat().st_mode & 0o7777) for name in ("made", "place")] == ["0o664", "0o2775"]
    (second,) = apply_all(str(share), [entry], check=False)
    assert not second.changed
    os.removexattr(share / "common", "system.posix_acl_default")
    (third,) = apply_all(str(share), [entry], check=True)
    assert "without a default ACL" in third.before


@needs_root
@pytest.mark.parametrize("held", [True, False])
def test_what_others_may_have_moved_there_is_opened_to_nobody(share: Path, held: bool) -> None:
    """In a place of a group one of it can put the owner's own directory where another is to be."""
    os.chmod(share, 0o777)
    place = share / "cache"
    place.mkdir(mode=0o700)
    os.chown(place, ADA, ADA)
    if held:
        (place / "diary").write_text("ada's\n")
    entry = ShareEntry("cache", "directory", ADA, BOB, 0o2775, inherit=True, once=True)
    refused: list[Refusal] = []
    apply_all(str(share), [entry], check=False, refused=refused)
    status = place.stat()
    if held:
        assert f"{place} has {ADA}:{ADA} 0700 and is not empty" in refused[0].what
        assert (status.st_gid, status.st_mode & 0o7777) == (ADA, 0o700)
    else:
        assert (refused, status.st_gid, status.st_mode & 0o7777) == ([], BOB, 0o2775)
        (place / "wheel").touch()
        assert not apply_all(str(share), [entry], check=False)[0].changed


@needs_root
def test_a_long_file_of_ours_stays_as_it_is(share: Path) -> None:
    entry = file("images.json", "x" * (3 << 20))
    assert [apply_all(str(share), [entry], check=False)[0].changed for _run in range(2)] == [True, False]


@needs_root
def test_a_drifted_mode_and_content_are_put_right(share: Path) -> None:
    entry = file("a", "new\n", mode=0o600)
    (share / "a").write_text("old\n")
    os.chown(share / "a", ADA, ADA)
    (change,) = apply_all(str(share), [entry], check=False)
    assert "old" in change.before and "new" in change.after
    assert ((share / "a").read_text(), stat.S_IMODE((share / "a").stat().st_mode)) == ("new\n", 0o600)


@needs_root
def test_what_others_make_is_put_right_where_it_is(share: Path) -> None:
    entry = ShareEntry("key", "existing", ADA, ADA, 0o600)
    assert not apply_all(str(share), [entry], check=False)[0].changed
    (share / "key").write_text("made by ssh-keygen")
    (share / "key").chmod(0o644)
    os.chown(share / "key", ADA, ADA)
    for check, changed in ((True, True), (False, True), (False, False)):
        assert apply_all(str(share), [entry], check=check)[0].changed is changed
    assert (share / "key").stat().st_mode & 0o777 == 0o600
    assert (share / "key").read_text() == "made by ssh-keygen"


@needs_root
def test_a_token_is_made_once_and_shown_nowhere(share: Path) -> None:
    entry = ShareEntry("token", "file", ADA, ADA, 0o600, None, 32, True)
    (made,) = apply_all(str(share), [entry], check=False)
    token = (share / "token").read_text()
    (kept,) = apply_all(str(share), [entry], check=False)
    assert (made.changed, kept.changed) == (True, False)
    assert len(token) >= 43 and token not in made.before + made.after
    assert (share / "token").read_text() == token


@needs_root
def test_a_secret_stays_out_of_the_diff(share: Path) -> None:
    first, second = (apply_all(str(share), [file("s", text, secret=True)], check=False)[0] for text in ("one", "two"))
    assert first.changed and second.changed
    assert "one" not in first.after and not {"one", "two"} & set((second.before + second.after).split())
    assert (share / "s").read_text() == "two"


@needs_root
def test_what_belongs_to_somebody_else_is_refused_and_left(share: Path) -> None:
    (share / "users").mkdir()
    os.chown(share / "users", BOB, BOB)
    with pytest.raises(GpusteadError, match=f"belongs to uid {BOB}"):
        apply_all(str(share), [folder("users")], check=False)
    assert (share / "users").stat().st_uid == BOB


@needs_root
def test_a_symbolic_link_is_refused(share: Path, tmp_path: Path) -> None:
    (share / "users").symlink_to(tmp_path)
    for entry in (folder("users"), folder("users/x")):
        with pytest.raises(GpusteadError):
            apply_all(str(share), [entry], check=False)
    assert not (tmp_path / "x").exists()


@needs_root
def test_a_link_is_made_where_nothing_is(share: Path) -> None:
    raw = {"path": "ada/.config/nvim", "state": "link", "target": "/settings/nvim", "mode": None}
    entry = parse({**raw, "owner": ADA, "group": ADA})
    made = apply_all(str(share), [entry], check=False)
    link = share / "ada/.config/nvim"
    assert (made[0].changed, os.readlink(link), link.lstat().st_uid) == (True, "/settings/nvim", ADA)
    # It dangles here, as it may.
    assert not apply_all(str(share), [entry], check=False)[0].changed
    link.unlink()
    link.write_text("mine")
    assert not apply_all(str(share), [entry], check=False)[0].changed
    assert link.read_text() == "mine"


@needs_root
def test_where_only_root_may_write_the_result_still_belongs_to_the_owner(share: Path) -> None:
    os.chown(share, 0, 0)
    apply_all(str(share), [folder("d", BOB, 0o700), file("d/a", "x", BOB)], check=False)
    assert {(share / name).stat().st_uid for name in ("d", "d/a")} == {BOB}


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(ADA, 0o555), (0, 0o775), (0, 0o777)])
def test_root_does_not_write_where_others_could_put_a_link(share: Path, owner: int, mode: int) -> None:
    (share / "deep" / "er").mkdir(parents=True)
    os.chown(share, 0, 0)
    os.chown(share / "deep", owner, ADA)
    (share / "deep").chmod(mode)
    with pytest.raises(GpusteadError, match="nor by root"):
        apply_all(str(share), [file("deep/er/a", "x", BOB)], check=False)
    assert list((share / "deep" / "er").iterdir()) == []


@needs_root
def test_absent_removes_and_is_content_with_nothing(share: Path) -> None:
    apply_all(str(share), [file("a", "x")], check=False)
    gone = ShareEntry("a", "absent", ADA, ADA, 0)
    assert [apply_all(str(share), [gone], check=False)[0].changed for _ in range(2)] == [True, False]


# What accounts put in the way.

SERVICE = 61941
LAYOUT = [
    ShareEntry("users", "directory", SERVICE, SERVICE, 0o1775),
    ShareEntry("users/ada", "directory", ADA, ADA, 0o700, through=SERVICE),
    ShareEntry("users/bob", "directory", BOB, BOB, 0o700, through=SERVICE),
    ShareEntry("users/bob/.config", "directory", BOB, BOB, 0o700),
]


def done_as(uid: int, work: Callable[[], object]) -> bool:
    """Whether somebody with this uid, and no group but their own, could do it."""

    def attempt() -> bool:
        work()
        return True

    try:
        return bool(as_account.run(attempt, Identity(uid, uid)))
    except (PermissionError, GpusteadError):
        return False


@pytest.fixture
def served(share: Path) -> Path:
    """A share as role nas serves it."""
    os.chown(share, SERVICE, SERVICE)
    share.chmod(0o1775)
    return share


@needs_root
def test_an_account_owns_its_directory_and_can_make_rename_or_remove_none(served: Path) -> None:
    apply_all(str(served), LAYOUT, check=False)
    assert not any(change.changed for change in apply_all(str(served), LAYOUT, check=False))
    made = {
        path.name: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o7777)
        for path in (served / "users").iterdir()
    }
    assert made == {"ada": (ADA, ADA, 0o700), "bob": (BOB, BOB, 0o700)}
    users = served / "users"
    for work in (
        (users / "zoe").mkdir,
        lambda: (users / "ada").rename(users / ".a"),
        (users / "ada").rmdir,
        (users / "bob").rmdir,
        (served / "shared").mkdir,
        lambda: users.chmod(0o777),
    ):
        assert not done_as(ADA, work)
    assert done_as(ADA, (users / "ada" / "mine").mkdir)


@needs_root
def test_what_is_refused_leaves_the_others_theirs(share: Path) -> None:
    (share / "users").mkdir(mode=0o1777)
    (share / "users").chmod(0o1777)
    os.chown(share / "users", ADA, ADA)
    (share / "users/zoe").mkdir()
    os.chown(share / "users/zoe", ADA, ADA)
    zoe = 61502
    entries = [
        folder("users", mode=0o1777),
        folder("users/zoe", zoe, 0o700),
        folder("users/zoe/.config", zoe, 0o700),
        folder("users/zoey", BOB, 0o700),
    ]
    refused: list[Refusal] = []
    changes = apply_all(str(share), entries, check=False, refused=refused)
    assert [change.changed for change in changes] == [False, False, False, True]
    assert [one.name for one in refused] == ["users/zoe", "users/zoe/.config"]
    assert f"{share}/users/zoe belongs to uid {ADA}" in refused[0].what
    assert f"chown {zoe}:{zoe}" in refused[0].remedy
    assert "users/zoe belongs to" in refused[1].what and refused[1].remedy == refused[0].remedy
    with pytest.raises(GpusteadError, match=f"belongs to uid {ADA}"):
        apply_all(str(share), entries, check=False)


def fifo(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def endless(path: Path, _outside: Path) -> None:
    path.symlink_to("/dev/zero")


def leads_out(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret")


def leads_out_as_directory(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def a_directory(path: Path, _outside: Path) -> None:
    path.mkdir()
    os.chown(path, ADA, ADA)


TRAPS = [fifo, endless, leads_out, leads_out_as_directory, a_directory]


@needs_root
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("state", ["file", "existing", "directory", "existing_directory", "token"])
def test_what_is_no_file_is_refused_at_once(share: Path, tmp_path: Path, trap: Trap, state: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("root's")
    (outside / "secret").chmod(0o600)
    before = [path.lstat() for path in (outside, outside / "secret")]
    trap(share / "x", outside)
    os.lchown(share / "x", ADA, ADA)
    content = {"file": "new\n", "token": None}.get(state)
    kind = "file" if state == "token" else state
    entry = ShareEntry("x", kind, ADA, ADA, 0o700, content, 32 if state == "token" else 0)
    began = time.monotonic()
    refused: list[Refusal] = []
    apply_all(str(share), [entry, file("y", "others\n")], check=False, refused=refused)
    if trap is a_directory and "directory" in state:
        assert refused == []
    else:
        assert [one.name for one in refused] == ["x"] and f"{share}/x is a " in refused[0].what
    assert (share / "y").read_text() == "others\n"
    assert time.monotonic() - began < 5
    assert [path.lstat() for path in (outside, outside / "secret")] == before


@needs_root
def test_a_content_without_end_is_replaced_and_not_read(share: Path) -> None:
    with (share / "a").open("wb") as huge:
        huge.truncate(1 << 40)
    os.chown(share / "a", ADA, ADA)
    (change,) = apply_all(str(share), [file("a", "new\n")], check=False)
    assert "longer than" in change.before and len(change.before) < 1000
    assert (share / "a").read_text() == "new\n"


@needs_root
def test_what_lay_there_reaches_no_terminal_as_it_is(share: Path) -> None:
    (share / "a").write_text("\x1b[2Jgone\n")
    os.chown(share / "a", ADA, ADA)
    (change,) = apply_all(str(share), [file("a", "new\n")], check=True)
    assert "\x1b" in change.before and "\x1b" not in change.visible().before
    assert change.visible().before.splitlines()[1] == "\\x1b[2Jgone"


@needs_root
def test_an_account_that_stops_what_runs_in_its_name_delays_itself_alone(share: Path) -> None:
    entries = [*(folder(f"ada{number}") for number in range(9)), file("b", "x", BOB)]
    os.chown(share, 0, 0)
    share.chmod(0o777)
    stops = (
        f"import os, signal\nos.setresgid({ADA}, {ADA}, {ADA})\nos.setresuid({ADA}, {ADA}, {ADA})\n"
        "while True:\n"
        "  for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        f"    try:\n      if os.stat('/proc/' + pid).st_uid in (0, {ADA}) and int(pid) != os.getpid():\n"
        "        os.kill(int(pid), signal.SIGSTOP)\n"
        "    except OSError: pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", stops]) as attacker:
        try:
            time.sleep(0.5)
            refused: list[Refusal] = []
            began = time.monotonic()
            apply_all(str(share), entries, check=False, timeout=3, refused=refused)
            took = time.monotonic() - began
        finally:
            attacker.kill()
    assert took < 12
    assert all(one.name.startswith("ada") for one in refused), refused
    assert (share / "b").stat().st_uid == BOB
    assert all(one.name.startswith("ada") for one in refused)


@needs_root
def test_however_many_accounts_hold_up_what_runs_in_their_names_the_others_have_their_time(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are as many as would use up all the time, were each waited for as long as one may take."""
    holding = range(ADA, ADA + 8)

    def hold(root: str, entry: ShareEntry, check: bool, steps: Sequence[str] = ("make", "finish")) -> list[str]:
        while entry.owner in holding:
            time.sleep(1)
        return apply(root, entry, check, steps)

    apply = apply_nas_files.apply
    monkeypatch.setattr(apply_nas_files, "apply", hold)
    share.chmod(0o777)
    entries = [*(ShareEntry(f"of{uid}", "directory", uid, uid, 0o700) for uid in holding), file("b", "x", 4900)]
    refused: list[Refusal] = []
    apply_all(str(share), entries, check=False, timeout=1, refused=refused)
    assert [one.name for one in refused] == [f"of{uid}" for uid in holding]
    assert (share / "b").stat().st_uid == 4900


@needs_root
def test_a_first_content_stays(share: Path) -> None:
    entry = ShareEntry("key", "file", ADA, ADA, 0o600, "one", once=True, secret=True)
    (made,) = apply_all(str(share), [entry], check=False)
    (kept,) = apply_all(str(share), [ShareEntry(**{**vars(entry), "content": "two"})], check=False)
    assert (made.changed, kept.changed, (share / "key").read_text()) == (True, False, "one")
    assert "one" not in made.after


# The layout that was its owner's becomes the service account's.


def former(share: Path) -> list[ShareEntry]:
    for name in (".cluster", ".cluster/nodes"):
        (share / name).mkdir()
        os.chown(share / name, ADA, ADA)
    (share / ".cluster/nodes/a.json").write_text("{}")
    os.chown(share / ".cluster/nodes/a.json", ADA, ADA)
    return [
        ShareEntry(".cluster", "directory", SERVICE, SERVICE, 0o755, former=(ADA, BOB)),
        ShareEntry(".cluster/nodes", "existing_directory", SERVICE, SERVICE, 0o755, former=(ADA, BOB)),
        ShareEntry(".cluster/nodes/a.json", "file", SERVICE, SERVICE, 0o644, "{}", former=(ADA, BOB)),
        ShareEntry(".cluster/mesh", "existing_directory", SERVICE, SERVICE, 0o755, former=(ADA, BOB)),
    ]


@needs_root
@pytest.mark.parametrize("owner", [0, SERVICE])
def test_a_former_owner_loses_the_layout_where_root_may(served: Path, owner: int) -> None:
    entries = former(served)
    os.chown(served, owner, SERVICE)
    assert apply_all(str(served), entries, check=True, trusted=(SERVICE,))[0].changed
    apply_all(str(served), entries, check=False, trusted=(SERVICE,))
    found = {str(path.relative_to(served)): path.stat().st_uid for path in sorted(served.rglob("*"))}
    assert found == dict.fromkeys((".cluster", ".cluster/nodes", ".cluster/nodes/a.json"), SERVICE)
    assert not any(change.changed for change in apply_all(str(served), entries, check=False, trusted=(SERVICE,)))


@needs_root
@pytest.mark.parametrize("trap", [fifo, endless, leads_out])
def test_what_a_former_owner_left_in_the_place_of_a_file_is_replaced(served: Path, tmp_path: Path, trap: Trap) -> None:
    (tmp_path / "secret").write_text("root's")
    trap(served / "a.json", tmp_path)
    os.lchown(served / "a.json", ADA, ADA)
    entry = ShareEntry("a.json", "file", SERVICE, SERVICE, 0o644, "{}", former=(ADA,))
    assert apply_all(str(served), [entry], check=False)[0].changed
    assert stat.S_ISREG((served / "a.json").lstat().st_mode) and (served / "a.json").read_text() == "{}"
    assert (served / "a.json").stat().st_uid == SERVICE
    assert (tmp_path / "secret").read_text() == "root's"


@needs_root
def test_a_second_name_takes_no_file_from_another(served: Path) -> None:
    (served / "shared").mkdir()
    (served / "shared/paper").write_text("bob's")
    os.chown(served / "shared/paper", BOB, BOB)
    os.link(served / "shared/paper", served / "a.json")
    entry = ShareEntry("a.json", "existing", SERVICE, SERVICE, 0o644, former=(ADA, BOB))
    refused: list[Refusal] = []
    apply_all(str(served), [entry], check=False, refused=refused, trusted=(SERVICE,))
    assert "has 2 names" in refused[0].what
    assert (served / "shared/paper").stat().st_uid == BOB


@needs_root
def test_where_it_may_not_the_commands_are_named_once(share: Path) -> None:
    entries = former(share)  # in a root that is ada's
    refused: list[Refusal] = []
    apply_all(str(share), entries, check=False, refused=refused, trusted=(SERVICE,))
    assert [one.name for one in refused] == [entry.path for entry in entries]
    assert len({one.remedy for one in refused}) == 1
    assert f"chown {SERVICE}:{SERVICE} .cluster" in refused[0].remedy
    assert {path.stat().st_uid for path in share.rglob("*")} == {ADA}


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "problem"),
    [
        (SERVICE, SERVICE, 0o1775, ""),
        (SERVICE, SERVICE, 0o755, ""),
        (0, 0, 0o755, ""),
        (0, SERVICE, 0o1775, ""),
        (0, 0, 0o775, "accounts may write"),
        (0, ADA, 0o775, "accounts may write"),
        (0, 0, 0o1777, "accounts may write"),
        (ADA, ADA, 0o755, f"belongs to uid {ADA}"),
    ],
)
def test_whose_root_of_a_share_is_refused(uid: int, gid: int, mode: int, problem: str) -> None:
    said = root_problems(Identity(SERVICE, SERVICE), uid, gid, mode)
    assert [problem in one.what for one in said] == [True] * bool(problem)
    assert all(f"chown {SERVICE}:{SERVICE}" in one.remedy for one in said)


@pytest.fixture
def silent_share(namespace: None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o711)
        root = Path(top, "share")
        root.mkdir()
        with silent(root, 0):
            yield root


@needs_root
def test_a_share_that_does_not_answer_is_seen_to_be_mounted_at_once(silent_share: Path) -> None:
    looked = os.fork()
    if looked == 0:
        os._exit(0 if is_mounted(str(silent_share), False) and is_mounted(f"{silent_share}/", False) else 1)
    ended, patience = (0, 0), time.monotonic() + 10
    while ended[0] == 0 and time.monotonic() < patience:
        ended = os.waitpid(looked, os.WNOHANG)
        time.sleep(0.01)
    assert ended == (looked, 0)
    with pytest.raises(GpusteadError, match="nothing is mounted"):
        is_mounted(str(silent_share.parent), check=False)
    assert not is_mounted(str(silent_share.parent), check=True)


@needs_root
def test_nobody_waits_for_a_share_that_did_not_answer_another(silent_share: Path) -> None:
    entries = [folder(f"users/{uid}", uid) for uid in range(61500, 61510)]
    refused: list[Refusal] = []
    began = time.monotonic()
    apply_all(str(silent_share), entries, check=True, timeout=2, refused=refused)
    assert time.monotonic() - began < 2 + 2 / 4 + 2
    assert "did not answer uid 61500" in refused[0].what
    assert {one.what for one in refused[1:]} == {f"the share on {silent_share} does not answer"}
    assert len(refused) == 10


@pytest.mark.parametrize("mounts_it", [True, False])
def test_an_automount_is_asked_and_counts_for_nothing_while_it_waits(
    mounts_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = str(tmp_path.resolve()), ["autofs"]

    def mounted() -> dict[str, Mounted]:
        return {path: Mounted(path, "0:9", "/", ("rw",), (), seen[-1], "nas:/x")}

    def ask(_root: str, _timeout: float) -> bool:
        seen.append("nfs4" if mounts_it else "autofs")
        return mounts_it

    monkeypatch.setattr(mounts, "mounted", mounted)
    monkeypatch.setattr(apply_nas_files, "_answers", ask)
    assert is_mounted(path, check=True) is mounts_it
    seen[:] = ["autofs"]
    if mounts_it:
        assert is_mounted(path, check=False)
    else:
        with pytest.raises(GpusteadError, match="nothing is mounted"):
            is_mounted(path, check=False)
