"""A tree of several accounts, copied as its owners and compared; also where root is nobody."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import copy_tree
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.copy_tree import Outcome, compare, copy

ADA, GRACE, LAYOUT = 61500, 61501, 61941
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="several accounts")


def put(path: Path, uid: int, gid: int, mode: int, text: str | None = None) -> Path:
    path.mkdir() if text is None else path.write_text(text)
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The places of a node, as the roles and people make them."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    top = put(tmp_path / "here", LAYOUT, LAYOUT, 0o1775)
    put(top / "users", LAYOUT, LAYOUT, 0o1775)
    for name, uid in (("ada", ADA), ("grace", GRACE)):
        own = put(top / "users" / name, uid, uid, 0o700)
        put(own / "work", uid, uid, 0o755)
        put(own / "work/data", uid, uid, 0o600, name * 1000)
        put(own / "work/tool", uid, uid, 0o4755, "#!/bin/sh\n")
        os.symlink("/etc/passwd", own / "work/link")
        os.chown(own / "work/link", uid, uid, follow_symlinks=False)
    shared = put(top / "shared", ADA, 61400, 0o2775)
    both = put(shared / "both", GRACE, 61400, 0o2770)
    put(both / "of ada", ADA, 61400, 0o640, "a")
    os.utime(both, ns=(1, 10**18))
    return top


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return put(tmp_path / "there", LAYOUT, LAYOUT, 0o1775)


@pytest.fixture
def squashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do nothing there, as on an export with root squashing: what it tries is refused."""
    as_owner = copy_tree._Walk._as_owner

    def only_as_owner(
        self: copy_tree._Walk, status: os.stat_result, level: object, work: Callable[[bool], object]
    ) -> object:
        def refusing(as_root: bool) -> object:
            if as_root or os.geteuid() == 0:
                raise PermissionError(1, "Operation not permitted")
            return work(as_root)

        return as_owner(self, status, level, refusing)  # type: ignore[arg-type]

    monkeypatch.setattr(copy_tree._Walk, "_as_owner", only_as_owner)


def listed(top: Path) -> list[str]:
    """All that lies below, with ids, modes, times, links and contents."""
    form = "%P %y %U:%G %m %T@ %l\n".replace("%m", "%#m")
    out = subprocess.run(["find", top, "-mindepth", "1", "-printf", form], check=True, capture_output=True, text=True)
    sums = subprocess.run(
        ["find", ".", "-type", "f", "-exec", "sha256sum", "{}", "+"],
        cwd=top,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted([*out.stdout.splitlines(), *sums.stdout.splitlines()])


def said(outcome: Outcome) -> list[str]:
    return [f"{one.name} {one.what}" for one in outcome.left]


def test_all_of_it_is_there_and_nothing_twice(here: Path, there: Path, squashed: None) -> None:
    first = copy(str(here), str(there))
    assert (said(first), first.copied, first.lost) == ([], first.entries, 0)
    assert listed(there) == listed(here)
    assert (copy(str(here), str(there)).copied, said(compare(str(here), str(there)))) == (0, [])
    # What was made meanwhile, and nothing else.
    put(here / "users/ada/work/new", ADA, ADA, 0o600, "n")
    put(here / "users/ada/work/data", ADA, ADA, 0o600, "other")
    assert said(compare(str(here), str(there))) != []
    assert copy(str(here), str(there)).copied == 2
    assert listed(there) == listed(here)
    assert os.geteuid() == os.getegid() == 0


def test_what_root_has_left_in_a_home_is_named_where_root_is_nobody(here: Path, there: Path, squashed: None) -> None:
    put(here / "users/ada/work/of root", 0, 0, 0o644, "r")
    found = copy(str(here), str(there))
    assert said(found) == ["users/ada/work/of root cannot be copied or read (Operation not permitted)"]
    assert "chown -h" in found.left[0].remedy
    assert said(compare(str(here), str(there))) == said(found)


def test_where_root_is_root_it_is_copied_for_its_owner(here: Path, there: Path) -> None:
    put(here / "users/ada/work/of root", 0, 0, 0o644, "r")
    # In a directory of ada's, where grace may not make anything.
    put(here / "users/ada/work/of grace", GRACE, GRACE, 0o600, "g")
    put(here / "users/ada/work/dir of grace", GRACE, GRACE, 0o500)
    assert (said(copy(str(here), str(there))), said(compare(str(here), str(there)))) == ([], [])
    assert listed(there) == listed(here)


def test_a_directory_that_its_owner_may_not_write_is_filled_all_the_same(
    here: Path, there: Path, squashed: None
) -> None:
    closed = put(here / "users/ada/cache", ADA, ADA, 0o755)
    put(closed / "module", ADA, ADA, 0o444, "m")
    closed.chmod(0o555)
    copy(str(here), str(there))
    closed.chmod(0o755)
    put(closed / "second", ADA, ADA, 0o444, "s")
    closed.chmod(0o555)
    assert said(copy(str(here), str(there))) == []
    assert listed(there) == listed(here)


def test_files_of_several_names_stay_one(here: Path, there: Path, squashed: None) -> None:
    os.link(here / "users/ada/work/data", here / "users/ada/again")
    assert said(copy(str(here), str(there))) == []
    assert (there / "users/ada/again").stat().st_ino == (there / "users/ada/work/data").stat().st_ino
    assert (copy(str(here), str(there)).copied, said(compare(str(here), str(there)))) == (0, [])


def test_a_hole_stays_one(here: Path, there: Path) -> None:
    big = here / "users/ada/hole"
    with big.open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate((64 << 20) + 4096)
    os.chown(big, ADA, ADA)
    assert said(copy(str(here), str(there))) == []
    assert (there / "users/ada/hole").stat().st_blocks < 8192
    assert said(compare(str(here), str(there))) == []


# What lies on the share already, and what is said of it.
def _newer(there: Path) -> None:
    put(there / "users/ada/work/data", ADA, ADA, 0o600, "newer")


def _a_link(there: Path) -> None:
    (there / "users/ada/work/data").unlink()
    os.symlink("/etc/shadow", there / "users/ada/work/data")


def _of_another(there: Path) -> None:
    os.chown(there / "users/ada/work/data", GRACE, GRACE)


def _a_file_for_a_directory(there: Path) -> None:
    shutil.rmtree(there / "users/ada/work")
    put(there / "users/ada/work", ADA, ADA, 0o600, "")


def _another_link(there: Path) -> None:
    (there / "users/ada/work/link").unlink()
    os.symlink("/etc/shadow", there / "users/ada/work/link")


IN_THE_WAY: dict[str, tuple[Callable[[Path], None], str]] = {
    "newer": (_newer, "users/ada/work/data is newer on the share"),
    "a link": (_a_link, "users/ada/work/data is something else on the share"),
    "another's": (_of_another, f"users/ada/work/data belongs to uid {GRACE} on the share, here to {ADA}"),
    "a file": (_a_file_for_a_directory, "users/ada/work is something else on the share"),
    "another link": (_another_link, "users/ada/work/link does not lead to /etc/passwd on the share"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_on_the_share_stays_and_is_named(here: Path, there: Path, case: str) -> None:
    change, expected = IN_THE_WAY[case]
    copy(str(here), str(there))
    change(there)
    before = [line for line in listed(there) if " d " not in line]
    assert said(copy(str(here), str(there))) == [expected]
    assert [line for line in listed(there) if " d " not in line] == before


def test_a_quota_on_the_share_is_named_with_its_setting(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)  # NFS says it when what was written goes to the server
    left = copy(str(here), str(there)).left
    assert left and {one.remedy for one in left if "quota" in one.what} == {copy_tree._BY_QUOTA}
    assert not list(there.rglob(".gpustead-move.*"))


def test_what_the_cluster_keeps_for_itself_is_the_nodes(here: Path, there: Path) -> None:
    for top, text in ((here, "ours"), (there, "begun anew by another node")):
        put(top / ".cluster", LAYOUT, LAYOUT, 0o755)
        put(top / ".cluster/images.json", LAYOUT, LAYOUT, 0o644, text)
    assert said(copy(str(here), str(there))) == []
    assert (there / ".cluster/images.json").read_text() == "ours"


def test_what_is_not_the_same_is_found(here: Path, there: Path) -> None:
    copy(str(here), str(there))
    data, tool = there / "users/ada/work/data", there / "users/grace/work/tool"
    status = data.stat()
    data.write_text("ADA" * 1000)
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    tool.chmod(0o755)
    (there / "shared/both/of ada").unlink()
    assert sorted(said(compare(str(here), str(there)))) == [
        "shared/both/of ada is not on the share",
        "users/ada/work/data has another content on the share",
        f"users/grace/work/tool has group {GRACE} and mode 0755 on the share, here {GRACE} and 4755",
    ]


def test_what_holds_nothing_is_passed_over_and_what_is_only_there_stays(here: Path, there: Path) -> None:
    os.mkfifo(here / "users/ada/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(here / "users/ada/socket"))
    put(there / "other", 0, 0, 0o644, "was here before")
    put(there / "users", LAYOUT, LAYOUT, 0o1775)
    put(there / "users/gone", GRACE, GRACE, 0o700)
    found = copy(str(here), str(there))
    assert (found.special, said(found)) == (2, [])
    compared = compare(str(here), str(there))
    assert (said(compared), compared.extra) == ([], 1)
    assert (there / "other").read_text() == "was here before"


def test_a_link_leads_root_nowhere(here: Path, there: Path, tmp_path: Path) -> None:
    """Who puts a link in the place of a directory of the copy has nothing written through it."""
    outside = put(tmp_path / "outside", 0, 0, 0o777)
    put(there / "users", LAYOUT, LAYOUT, 0o1775)
    os.symlink(outside, there / "users/ada")
    os.chown(there / "users/ada", ADA, ADA, follow_symlinks=False)
    assert "users/ada is something else on the share" in said(copy(str(here), str(there)))
    assert list(outside.iterdir()) == []


def test_what_others_have_put_on_the_share_is_neither_written_nor_opened(here: Path, there: Path) -> None:
    theirs = put(there / "theirs", GRACE, GRACE, 0o600, "precious")
    put(there / "users", LAYOUT, LAYOUT, 0o1775)
    put(there / "users/ada", ADA, ADA, 0o700)
    put(there / "users/ada/work", ADA, ADA, 0o755)
    os.link(theirs, there / f"users/ada/work/.gpustead-move.{ADA}")
    assert copy(str(here), str(there)).left == []
    assert (theirs.read_text(), theirs.stat().st_nlink) == ("precious", 1)
    os.symlink(theirs, there / "link")
    held = os.open(there, os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            copy_tree._set_mode(held, "link", 0o4777)
    finally:
        os.close(held)
    assert theirs.stat().st_mode & 0o7777 == 0o600


def test_a_mount_in_the_place_is_named(here: Path, there: Path, namespace: None) -> None:
    disk = put(here / "shared/disk", 0, 0, 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "disk", disk], check=True)
    assert said(copy(str(here), str(there))) == ["shared/disk is a mount of its own"]
