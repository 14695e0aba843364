"""nas_files: real directories, real owners, as root and as others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas_files import (
    Change,
    Entry,
    as_owner,
    parse,
    settle_all,
)

ADA, BOB = 61500, 61501
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    """A share whose root belongs to ada; others may pass."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    root = tmp_path / "share"
    root.mkdir()
    os.chown(root, ADA, ADA)
    yield root


def folder(path: str, owner: int = ADA, mode: int = 0o755) -> Entry:
    return Entry(path, "directory", owner, owner, mode)


def file(path: str, content: str, owner: int = ADA, mode: int = 0o644, secret: bool = False) -> Entry:
    return Entry(path, "file", owner, owner, mode, content, 0, secret)


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
    assert [change.changed for change in settle_all(str(share), entries, check=True)] == [True] * 3
    assert list(share.iterdir()) == []
    assert [change.changed for change in settle_all(str(share), entries, check=False)] == [True] * 3
    assert [change.changed for change in settle_all(str(share), entries, check=False)] == [False] * 3
    made = share / "users/bob/a"
    assert (made.read_text(), made.stat().st_uid, made.stat().st_gid) == ("hello\n", BOB, BOB)
    assert stat.S_IMODE((share / "users").stat().st_mode) == 0o1777
    assert [path.name for path in (share / "users/bob").iterdir()] == ["a"]


@needs_root
def test_a_drifted_mode_and_content_are_put_right(share: Path) -> None:
    entry = file("a", "new\n", mode=0o600)
    (share / "a").write_text("old\n")
    os.chown(share / "a", ADA, ADA)
    (change,) = settle_all(str(share), [entry], check=False)
    assert "old" in change.before and "new" in change.after
    assert ((share / "a").read_text(), stat.S_IMODE((share / "a").stat().st_mode)) == ("new\n", 0o600)


@needs_root
def test_what_others_make_is_put_right_where_it_is(share: Path) -> None:
    entry = Entry("key", "existing", ADA, ADA, 0o600)
    assert not settle_all(str(share), [entry], check=False)[0].changed
    (share / "key").write_text("made by ssh-keygen")
    (share / "key").chmod(0o644)
    os.chown(share / "key", ADA, ADA)
    for check, changed in ((True, True), (False, True), (False, False)):
        assert settle_all(str(share), [entry], check=check)[0].changed is changed
    assert (share / "key").stat().st_mode & 0o777 == 0o600
    assert (share / "key").read_text() == "made by ssh-keygen"


@needs_root
def test_a_token_is_made_once_and_shown_nowhere(share: Path) -> None:
    entry = Entry("token", "file", ADA, ADA, 0o600, None, 32, True)
    (made,) = settle_all(str(share), [entry], check=False)
    token = (share / "token").read_text()
    (kept,) = settle_all(str(share), [entry], check=False)
    assert (made.changed, kept.changed) == (True, False)
    assert len(token) >= 43 and token not in made.before + made.after
    assert (share / "token").read_text() == token


@needs_root
def test_a_secret_stays_out_of_the_diff(share: Path) -> None:
    first, second = (settle_all(str(share), [file("s", text, secret=True)], check=False)[0] for text in ("one", "two"))
    assert first.changed and second.changed
    assert "one" not in first.after and not {"one", "two"} & set((second.before + second.after).split())
    assert (share / "s").read_text() == "two"


@needs_root
def test_what_belongs_to_somebody_else_is_refused_and_left(share: Path) -> None:
    (share / "users").mkdir()
    os.chown(share / "users", BOB, BOB)
    with pytest.raises(GpusteadError, match=f"belongs to uid {BOB}"):
        settle_all(str(share), [folder("users")], check=False)
    assert (share / "users").stat().st_uid == BOB


@needs_root
def test_a_symbolic_link_is_refused(share: Path, tmp_path: Path) -> None:
    (share / "users").symlink_to(tmp_path)
    for entry in (folder("users"), folder("users/x")):
        with pytest.raises(GpusteadError):
            settle_all(str(share), [entry], check=False)
    assert not (tmp_path / "x").exists()


@needs_root
def test_a_link_is_made_where_nothing_is(share: Path) -> None:
    raw = {"path": "ada/.config/nvim", "state": "link", "target": "/settings/nvim", "mode": None}
    entry = parse({**raw, "owner": ADA, "group": ADA})
    made = settle_all(str(share), [entry], check=False)
    link = share / "ada/.config/nvim"
    assert (made[0].changed, os.readlink(link), link.lstat().st_uid) == (True, "/settings/nvim", ADA)
    # It dangles here, as it may.
    assert not settle_all(str(share), [entry], check=False)[0].changed
    link.unlink()
    link.write_text("mine")
    assert not settle_all(str(share), [entry], check=False)[0].changed
    assert link.read_text() == "mine"


@needs_root
def test_where_only_root_may_write_the_result_still_belongs_to_the_owner(share: Path) -> None:
    os.chown(share, 0, 0)
    settle_all(str(share), [folder("d", BOB, 0o700), file("d/a", "x", BOB)], check=False)
    assert {(share / name).stat().st_uid for name in ("d", "d/a")} == {BOB}


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(ADA, 0o555), (0, 0o775), (0, 0o777)])
def test_root_does_not_write_where_others_could_put_a_link(share: Path, owner: int, mode: int) -> None:
    (share / "deep" / "er").mkdir(parents=True)
    os.chown(share, 0, 0)
    os.chown(share / "deep", owner, ADA)
    (share / "deep").chmod(mode)
    with pytest.raises(GpusteadError, match="nor by root"):
        settle_all(str(share), [file("deep/er/a", "x", BOB)], check=False)
    assert list((share / "deep" / "er").iterdir()) == []


@needs_root
def test_a_squashed_root_is_reported_with_a_remedy(share: Path) -> None:
    (share / "closed").mkdir(mode=0o500)
    os.chown(share / "closed", ADA, ADA)
    with pytest.raises(GpusteadError, match="cannot be written by uid"):
        as_nobody = Entry("closed/x", "directory", BOB, BOB, 0o755)

        def work() -> Change:
            return settle_all(str(share), [as_nobody], check=False)[0]

        as_owner(work, BOB, BOB, 10)


@needs_root
def test_absent_removes_and_is_content_with_nothing(share: Path) -> None:
    settle_all(str(share), [file("a", "x")], check=False)
    gone = Entry("a", "absent", ADA, ADA, 0)
    assert [settle_all(str(share), [gone], check=False)[0].changed for _ in range(2)] == [True, False]


@needs_root
def test_a_share_that_hangs_is_given_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def hang() -> Change:
        fifo.read_text()
        return Change("", "")

    with pytest.raises(GpusteadError, match="did not answer"):
        as_owner(hang, os.geteuid(), os.getegid(), 0.2)
