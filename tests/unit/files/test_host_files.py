"""Files of root's: each state, twice, in a check; what is refused; and what nobody may read in what is said."""

from __future__ import annotations

import grp
import json
import os
import pwd
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import directory_services
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files import apply_host_files
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import merged, parse
from ansible_collections.gpustead.cluster.plugins.modules import host_files as module

US = {"owner": str(os.getuid()), "group": str(os.getgid())}
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to others")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The module over entries below tmp_path; what it answered."""
    tmp_path.chmod(0o755)

    def call(*entries: dict[str, Any], **options: Any) -> dict[str, Any]:
        full = [{**US, **entry, "path": str(tmp_path / entry["path"])} for entry in entries]
        arguments = {"entries": full, "_ansible_inject_invocation": True, **options}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        answer = capsys.readouterr().out
        result: dict[str, Any] = json.loads(answer)
        result["words"] = answer
        result["paths"] = [path.removeprefix(f"{tmp_path}/") for path in result.get("changed_paths", [])]
        return result

    return call


def look(path: Path) -> dict[str, Any]:
    """All that is there: modes, and what files and links hold."""
    return {
        str(one.relative_to(path)): (
            os.readlink(one) if one.is_symlink() else f"{one.stat().st_mode & 0o7777:o}",
            one.read_bytes() if one.is_file() and not one.is_symlink() else b"",
        )
        for one in sorted(path.rglob("*"))
    }


def before(path: Path) -> None:
    """What each case begins with."""
    (path / "there").mkdir(mode=0o700)
    (path / "there/file").write_bytes(b"old \xff\n")
    (path / "there/file").chmod(0o600)
    (path / "there/empty").mkdir(mode=0o755)
    (path / "there/link").symlink_to("file")
    (path / "linked").symlink_to("there")
    (path / "environment").write_bytes(b"A=\xe4\nno end")
    (path / "environment").chmod(0o644)


BLOCK = {"state": "block", "marker": "gpustead: proxies", "mode": "0644"}
WRITTEN = b"A=\xe4\nno end\n# BEGIN gpustead: proxies\nhttp_proxy=x\n# END gpustead: proxies\n"
# What is asked for, and what is different afterwards.
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a directory and a file in it": (
        [
            {"path": "new", "state": "directory", "mode": "0750"},
            {"path": "new/file", "content": "x\n", "mode": "0640"},
        ],
        {"new": ("750", b""), "new/file": ("640", b"x\n")},
    ),
    "a directory with those above it": (
        [{"path": "new/a/b", "state": "directory", "mode": "0700"}],
        {"new": ("755", b""), "new/a": ("755", b""), "new/a/b": ("700", b"")},
    ),
    "another mode of a directory": (
        [{"path": "there", "state": "directory", "mode": "1755"}],
        {"there": ("1755", b"")},
    ),
    "another content": (
        [{"path": "there/file", "content": "é\n", "mode": "0600"}],
        {"there/file": ("600", "é\n".encode())},
    ),
    "another mode of a file": ([{"path": "there/file", "mode": "0644"}], {"there/file": ("644", b"old \xff\n")}),
    "once, there": (
        [{"path": "there/file", "content": "new", "once": True, "mode": "0640"}],
        {"there/file": ("640", b"old \xff\n")},
    ),
    "once, not there": ([{"path": "new", "content": "new", "once": True, "mode": "0640"}], {"new": ("640", b"new")}),
    "a directory once": (
        [
            {"path": "there", "state": "directory", "mode": "0755", "once": True},
            {"path": "new", "state": "directory", "mode": "0755", "once": True},
        ],
        {"new": ("755", b"")},
    ),
    "a block of a file that must be there": (
        [{"path": "environment", "mode": "0644"}, {"path": "environment", "content": "http_proxy=x", **BLOCK}],
        {"environment": ("644", WRITTEN)},
    ),
    "existing, there": (
        [
            {"path": "there/file", "state": "existing", "mode": "0644"},
            {"path": "there/empty", "state": "existing", "mode": "0700"},
        ],
        {"there/file": ("644", b"old \xff\n"), "there/empty": ("700", b"")},
    ),
    "existing, not there": ([{"path": "new/file", "state": "existing", "mode": "0644"}], {}),
    "a link is replaced": (
        [{"path": "there/link", "content": "new", "mode": "0644"}],
        {"there/link": ("644", b"new")},
    ),
    "a link is followed": (
        [{"path": "there/link", "mode": "0644"}, {"path": "linked", "state": "directory", "mode": "0755"}],
        {"there": ("755", b""), "there/file": ("644", b"old \xff\n")},
    ),
    "root's link on the way": (
        [{"path": "linked/new", "content": "", "mode": "0644"}],
        {"there/new": ("644", b"")},
    ),
    "absent": (
        [{"path": "there/link", "state": "absent"}, {"path": "there/no/such", "state": "absent"}],
        {"there/link": None},
    ),
    "a directory that the entries before have emptied": (
        [{"path": path, "state": "absent"} for path in ("there/link", "there/file", "there/empty", "there")],
        dict.fromkeys(("there/link", "there/file", "there/empty", "there")),
    ),
    "directories in which others have left something": (
        [{"path": path, "state": "absent"} for path in ("there/file", "there/empty", "there")],
        dict.fromkeys(("there/file", "there/empty")),
    ),
    "a directory that holds nothing else": (
        [
            {"path": "there", "state": "directory", "mode": "0700", "exclusive": True},
            {"path": "there/new", "content": "", "mode": "0600"},
            {"path": "there/file", "content": "x", "mode": "0600", "when": False},
        ],
        {"there/new": ("600", b""), "there/empty": None, "there/link": None},
    ),
    "one that is not there": (
        [{"path": "new", "state": "directory", "mode": "0700", "exclusive": True}],
        {"new": ("700", b"")},
    ),
    "a block": (
        [{"path": "environment", "content": "http_proxy=x", **BLOCK}],
        {"environment": ("644", WRITTEN)},
    ),
    "two blocks, one in a new file": (
        [
            {"path": "new", **BLOCK, "content": "x=1\n"},
            {"path": "environment", **BLOCK, "content": "http_proxy=x\n"},
            {"path": "environment", **BLOCK, "marker": "other", "content": "y=2\n"},
        ],
        {
            "new": ("644", b"# BEGIN gpustead: proxies\nx=1\n# END gpustead: proxies\n"),
            "environment": ("644", WRITTEN + b"# BEGIN other\ny=2\n# END other\n"),
        },
    ),
    "no block in no file": ([{"path": "new", "content": "", **BLOCK}], {}),
    "what does not count": ([{"path": "new", "content": "x", "mode": "0644", "when": False}], {}),
}


@pytest.mark.parametrize(("entries", "expected"), CASES.values(), ids=CASES)
def test_states(entries: list[dict[str, Any]], expected: dict[str, Any], run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    old = look(tmp_path)
    checked = run(*entries, _ansible_check_mode=True)
    assert look(tmp_path) == old
    done = run(*entries)
    assert look(tmp_path) == {name: value for name, value in {**old, **expected}.items() if value is not None}
    assert (checked["changed"], checked["diff"]) == (done["changed"], done["diff"])
    assert done["changed"] is bool(expected) and len(done["paths"]) == len(done["diff"])
    again = run(*entries)
    assert (again["changed"], again["diff"], again["changed_paths"]) == (False, [], [])


def test_the_diff_is_complete(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    changed = run({"path": "there/file", "content": "new\n", "mode": "0644"})
    ids, (diff,) = f"{os.getuid()}:{os.getgid()}", changed["diff"]
    assert diff["before"] == f"{tmp_path}/there/file: file {ids} 0600\nold \\xff\n"
    assert diff["after"] == f"{tmp_path}/there/file: file {ids} 0644\nnew\n"


# As blockinfile does it, to the byte.
BLOCKS = [
    (b"", "x", b"# BEGIN m\nx\n# END m\n"),
    (b"a", "x\n", b"a\n# BEGIN m\nx\n# END m\n"),
    (b"# BEGIN m\nold\n# END m\nb\n", "x", b"# BEGIN m\nx\n# END m\nb\n"),
    (b"a\n# BEGIN m\nold\n# END m\nb", "", b"a\nb"),
    (b"a\n# BEGIN other\n# END other\n", "", b"a\n# BEGIN other\n# END other\n"),
    (b"# BEGIN m\nno end\n", "x", b"# BEGIN m\nno end\n# BEGIN m\nx\n# END m\n"),
    (b"# END m\nturned\n# BEGIN m\nb\n", "x", b"# BEGIN m\nx\n# END m\nb\n"),
]


@pytest.mark.parametrize(("content", "block", "expected"), BLOCKS)
def test_a_block_is_as_blockinfile_has_it(content: bytes, block: str, expected: bytes) -> None:
    assert merged(content, "m", block.encode()) == expected
    assert merged(expected, "m", block.encode()) == expected


def test_a_block_whose_end_ends_the_file_is_not_doubled() -> None:
    assert merged(b"# BEGIN m\nold\n# END m", "m", b"x") == b"# BEGIN m\nx\n# END m\n"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no mode": ({"path": "/x", "state": "file", "content": ""}, "octal mode"),
    "not absolute": ({"path": "x", "state": "absent"}, "absolute"),
    "elsewhere": ({"path": "/x/../y", "state": "absent"}, "absolute"),
    "the root": ({"path": "/", "state": "directory", "mode": "0755"}, "absolute"),
    "a directory with content": ({"path": "/x", "state": "directory", "mode": "0755", "content": "x"}, "Leave content"),
    "a block without a marker": ({"path": "/x", "state": "block", "mode": "0644", "content": "x"}, "a marker"),
    "a file that is exclusive": (
        {"path": "/x", "state": "file", "mode": "0644", "content": "", "exclusive": True},
        "Leave exclusive out",
    ),
    "a checker of nothing": (
        {"path": "/x", "state": "file", "mode": "0644", "content": "", "validate": ["true"]},
        "%s in it",
    ),
}


@pytest.mark.parametrize(("raw", "words"), BAD.values(), ids=BAD)
def test_entries_that_cannot_be_meant(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        parse(raw)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a directory in the place of a file": ({"path": "there", "content": "", "mode": "0644"}, "is a directory"),
    "a file in the place of a directory": (
        {"path": "there/file", "state": "directory", "mode": "0755"},
        "is a file: expected a directory",
    ),
    "a file that must be there": ({"path": "new", "mode": "0644"}, "is not there"),
    "no such account": ({"path": "new", "content": "", "mode": "0644", "owner": "n0b0dy"}, "an account of this host"),
    "a way that is not there": ({"path": "new/file", "content": "", "mode": "0644"}, "directory of .* is not there"),
}


@pytest.mark.parametrize(("entry", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done(entry: dict[str, Any], words: str, run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    old = look(tmp_path)
    result = run(entry)
    assert result["failed"] and look(tmp_path) == old
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(result["msg"])


def test_nothing_is_changed_where_a_later_entry_is_refused(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    later = {"path": "there", "content": "x", "mode": "0644"}
    result = run({"path": "new", "content": "x", "mode": "0644"}, later)
    assert result["failed"] and not (tmp_path / "new").exists()


def test_a_way_that_others_can_change_is_refused(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    entry = {"path": "there/file", "content": "new", "mode": "0644"}
    (tmp_path / "there").chmod(0o757)
    assert "can be changed by others" in run(entry)["msg"]
    (tmp_path / "there").chmod(0o1757)  # nobody could exchange it there, but make it before we do
    assert "can be changed by others" in run(entry)["msg"]
    (tmp_path / "there").chmod(0o755)
    tmp_path.chmod(0o1777)
    assert run(entry)["changed"]


# Entries of an ACL beside the owner's: tag, permissions, id; and whether somebody else than root can write.
USER, OWNING_GROUP, GROUP, MASK, OTHER, NONE = 2, 4, 8, 16, 32, 2**32 - 1
ACLS = {
    "an account may write": ([(USER, 7, 1500), (OWNING_GROUP, 5, NONE), (MASK, 7, NONE)], True),
    "a group may write": ([(OWNING_GROUP, 5, NONE), (GROUP, 7, 54321), (MASK, 7, NONE)], True),
    "its own group may": ([(USER, 5, 1500), (OWNING_GROUP, 7, NONE), (MASK, 7, NONE)], False),
    "root may": ([(USER, 7, 0), (OWNING_GROUP, 5, NONE), (GROUP, 7, 0), (MASK, 7, NONE)], False),
    "more than the mask allows": ([(USER, 7, 1500), (OWNING_GROUP, 5, NONE), (MASK, 5, NONE)], False),
}


@needs_root
@pytest.mark.parametrize("case", ACLS)
def test_who_may_write_by_an_acl_is_another_too(case: str, run: Run, tmp_path: Path) -> None:
    entries, refused = ACLS[case]
    place = tmp_path / "there"
    place.mkdir()
    acl = [(1, 7, NONE), *entries, (OTHER, 5, NONE)]
    try:
        os.setxattr(
            place, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in acl)
        )
    except OSError:
        pytest.skip("no ACLs here")
    found = run({"path": "there/file", "content": "x", "mode": "0644"})
    assert ("can be changed by others" in found.get("msg", "")) is refused
    if refused:
        assert found["msg"].endswith(f"See who needs that, then: chmod g-w {place}.")
        place.chmod(0o755)
        assert run({"path": "there/file", "content": "x", "mode": "0644"})["changed"]


OPEN = [{"path": "there", "state": "directory", "mode": "0755"}, {"path": "there/file", "content": "x", "mode": "0644"}]


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o775])
@pytest.mark.parametrize("check", [True, False])
def test_a_directory_that_an_entry_before_closes_is_closed(mode: int, check: bool, run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    os.chown(tmp_path / "there", 0, 1500)
    (tmp_path / "there").chmod(mode)
    result = run(*OPEN, _ansible_check_mode=check)
    assert result["paths"] == ["there", "there/file"]
    status = (tmp_path / "there").stat()
    assert (status.st_gid, status.st_mode & 0o777) == ((1500, mode) if check else (0, 0o755))
    assert "can be changed by others" in run(OPEN[1])["msg"] if check else not run(*OPEN)["changed"]


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_directory_of_an_account_is_not_taken_from_it(mode: int, run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    os.chown(tmp_path / "there", 1500, 0)
    (tmp_path / "there").chmod(mode)
    assert "can be changed by others (owner 1500" in run(*OPEN)["msg"]
    assert (tmp_path / "there").stat().st_uid == 1500


@pytest.mark.parametrize("content", ["x", "another"])
def test_what_was_exchanged_before_it_was_closed_is_refused(content: str, tmp_path: Path) -> None:
    before(tmp_path)
    file = tmp_path / "there/file"
    file.write_text("x")
    file.chmod(0o644)
    (tmp_path / "there").chmod(0o757)
    entries = [{**US, **entry, "path": str(tmp_path / entry["path"])} for entry in OPEN]
    file_entry = {"state": "file", **entries[1], "content": content}
    plans = apply_host_files.plan_all([parse(entries[0]), parse(file_entry)])
    file.unlink()
    file.symlink_to("/etc/hostname")
    with pytest.raises(GpusteadError, match="file is another one now: until now others could change what lies in"):
        apply_host_files.apply_all(plans)
    assert file.is_symlink()
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755


@needs_root
@pytest.mark.parametrize(("members", "refused"), [([], False), (["ada"], True)])
def test_who_is_in_the_group_of_a_directory_is_asked_once(
    members: list[str], refused: bool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a directory service each question takes its time, and below /usr/local/lib there are many files."""
    asked = tmp_path / "asked"
    ada = SimpleNamespace(pw_name="ada", pw_uid=1500, pw_gid=1500)

    def everybody() -> list[SimpleNamespace]:
        with asked.open("a") as file:
            file.write("x")
        return [ada]

    monkeypatch.setattr(pwd, "getpwall", everybody)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: ada)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: SimpleNamespace(gr_mem=members))
    (tmp_path / "staff").mkdir()
    os.chown(tmp_path / "staff", 0, 4711)
    (tmp_path / "staff").chmod(0o2775)
    apply_host_files._others.cache_clear()
    found = run(*({"path": f"staff/{number}", "content": "x", "mode": "0644"} for number in range(20)))
    apply_host_files._others.cache_clear()
    assert ("can be changed by others" in found.get("msg", "")) is refused
    place = tmp_path / "staff"
    remedy = f"See who needs that, then: chmod g-w {place}; or take ada out of the group (gpasswd -d)."
    assert (remedy in found.get("msg", "")) is refused
    assert asked.read_text() == "x"


@needs_root
def test_a_directory_service_that_hangs_keeps_nobody_and_is_not_trusted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: time.sleep(60))
    monkeypatch.setattr(apply_host_files, "_ANSWERING", 0.5)
    (tmp_path / "staff").mkdir()
    os.chown(tmp_path / "staff", 0, 4711)
    (tmp_path / "staff").chmod(0o2775)
    apply_host_files._others.cache_clear()
    began = time.monotonic()
    found = run({"path": "staff/file", "content": "x", "mode": "0644"})
    apply_host_files._others.cache_clear()
    assert time.monotonic() - began < 20
    assert f"then: chmod g-w {tmp_path / 'staff'}." in found["msg"]


@needs_root
@pytest.mark.parametrize("case", ["4711", "4711 sss", "100 sss", "50 sss"])
def test_a_group_that_a_directory_may_have_people_in_without_a_list_is_not_trusted(
    case: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, *services = case.split()
    gid = int(number)
    monkeypatch.setattr(pwd, "getpwall", list)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: SimpleNamespace(gr_mem=[]))
    monkeypatch.setattr(directory_services, "services", lambda _root: services)
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 0, gid)
    (tmp_path / "data").chmod(0o2775)
    apply_host_files._others.cache_clear()
    found = run({"path": "data/file", "content": "x", "mode": "0644"})
    apply_host_files._others.cache_clear()
    assert (f"then: chmod g-w {tmp_path / 'data'}." in found.get("msg", "")) is (case in ("4711 sss", "100 sss"))


def test_nothing_is_refused_where_nothing_is_to_be_removed(run: Run, tmp_path: Path) -> None:
    """Else a node that has nothing there fails for a directory that only another one uses."""
    before(tmp_path)
    (tmp_path / "there").chmod(0o777)
    assert run({"path": "there/no", "state": "absent"})["changed"] is False
    assert "can be changed by others" in run({"path": "there/file", "state": "absent"})["msg"]
    assert (tmp_path / "there/file").exists()


MODES = [
    ((0, 0), 0o757, "chmod o-w {}."),
    ((1500, 0), 0o755, "chown root {}."),
    ((1500, 54321), 0o777, "chown root {0} && chmod go-w {0}."),
    ((0, 54321), 0o775, "chmod g-w {}."),
]


@needs_root
@pytest.mark.parametrize(("owner", "mode", "remedy"), MODES)
def test_a_refusal_says_what_to_do(owner: tuple[int, int], mode: int, remedy: str, run: Run, tmp_path: Path) -> None:
    place = tmp_path / "there"
    place.mkdir()
    os.chown(place, *owner)
    place.chmod(mode)
    found = run({"path": "there/file", "content": "", "mode": "0644"})
    assert found["msg"].endswith(f"See who needs that, then: {remedy.format(place)}")


@needs_root
@pytest.mark.parametrize("last", [False, True])
def test_a_directory_of_an_account_is_refused(last: bool, run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    os.chown(tmp_path / "there", 1500, 0)
    path = "there/file" if last else "there/empty/new"
    assert "owner 1500" in run({"path": path, "content": "x", "mode": "0644"})["msg"]
    os.chown(tmp_path / "there", 0, 54321)
    (tmp_path / "there").chmod(0o775)
    assert "group 54321" in run({"path": path, "content": "x", "mode": "0644"})["msg"]


@needs_root
def test_a_link_of_an_account_on_the_way_is_refused(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    tmp_path.chmod(0o1777)
    os.chown(tmp_path / "linked", 1500, 0, follow_symlinks=False)
    assert "is a link of uid 1500" in run({"path": "linked/file", "content": "x", "mode": "0644"})["msg"]


@needs_root
def test_owner_and_group(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    run(
        {"path": "there/file", "content": "x", "mode": "0640", "owner": "1500", "group": "daemon"},
        {"path": "there/empty", "state": "directory", "mode": "2775", "owner": "1500", "group": "1501"},
    )
    file, directory = (tmp_path / "there" / name for name in ("file", "empty"))
    assert (file.stat().st_uid, file.group(), file.stat().st_mode & 0o7777) == (1500, "daemon", 0o640)
    assert (directory.stat().st_uid, directory.stat().st_gid, directory.stat().st_mode & 0o7777) == (1500, 1501, 0o2775)


def test_links_that_lead_in_a_circle(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "a" in run({"path": "a/file", "content": "x", "mode": "0644"})["msg"]


def test_what_its_checker_refuses_is_left_as_it_is(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    old = look(tmp_path)
    first = {"path": "new", "content": "x", "mode": "0644"}
    entry = {"path": "there/file", "content": "bad\n", "mode": "0600", "validate": ["grep", "-v", "bad", "%s"]}
    result = run(first, entry)
    assert "does not accept" in result["msg"] and look(tmp_path) == old
    assert run(first, {**entry, "content": "good\n"})["paths"] == ["new", "there/file"]


def test_a_checker_sees_what_will_lie_beside_the_file(run: Run, tmp_path: Path) -> None:
    first = {"path": "first", "content": "one\n", "mode": "0600"}
    second = {"path": "second", "content": "two\n", "mode": "0600", "validate": ["diff", "%d/first", "%s"]}
    assert "does not accept" in run(first, second)["msg"] and not (tmp_path / "second").exists()
    assert run(first, {**second, "content": "one\n"})["paths"] == ["first", "second"]
    # Also where that one stays as it is.
    assert run(first, {**second, "content": "one\n", "validate": ["false", "%s"]})["paths"] == []
    assert "does not accept" in run(first, second)["msg"]


def test_a_secret_is_told_nowhere(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    secret = "hunter2 'is'\nnot to be told\n"
    entry = {"path": "there/file", "content": secret, "mode": "0600", "secret": True}
    refusing = {**entry, "validate": ["sh", "-c", "cat $0; exit 1", "%s"]}
    for result in (run(refusing), run(entry), run({**entry, "content": "another\nsecret\n"}), run({**entry, "x": 1})):
        assert "hunter2" not in result["words"] and "old \\" not in str(result.get("diff"))
    assert (tmp_path / "there/file").read_text() == "another\nsecret\n"


def test_the_log_of_the_system_is_told_of_paths_and_not_of_contents(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More people read it than a file of mode 0600, and a library of a hundred files does not belong there."""
    logged: list[str] = []
    monkeypatch.setattr(module.Module, "log", lambda self, text, log_args: logged.append(f"{text}{log_args}"))
    run(
        {"path": "one", "content": "hunter2\n'two'\n", "mode": "0600", "secret": True},
        {"path": "two", "content": "plain", "mode": "0600"},
    )
    assert (tmp_path / "two").read_text() == "plain"
    assert len(logged) == 1 and f"{tmp_path}/two" in logged[0]
    assert "plain" not in logged[0] and "hunter2" not in logged[0]


def test_copies_of_what_is_replaced(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    for day in range(1, 8):
        (tmp_path / f"there/file.2026-01-0{day}@00:00:00.bak").write_text("")
    entry = {"path": "there/file", "content": "new", "mode": "0644", "backup": True}
    run(entry)
    run(entry)
    copies = sorted((tmp_path / "there").glob("file.*"))
    assert len(copies) == 5 and copies[-1].read_bytes() == b"old \xff\n" and copies[-1].stat().st_mode & 0o777 == 0o600


def test_what_a_killed_run_has_left_goes_when_the_file_is_written(run: Run, tmp_path: Path) -> None:
    before(tmp_path)
    names = [".file.0123456789ab.tmp", ".empty.0123456789ab.tmp", "file.2026-01-01@00:00:00.bak"]
    for name in names:
        (tmp_path / "there" / name).write_text("hunter2")
        os.utime(tmp_path / "there" / name, (0, 0))
    entry = {"path": "there/file", "content": "new", "mode": "0600"}
    run(entry, _ansible_check_mode=True)
    assert all((tmp_path / "there" / name).exists() for name in names)
    run(entry)
    assert [(tmp_path / "there" / name).exists() for name in names] == [False, True, True]


def test_roots_links_of_this_very_host_are_followed() -> None:
    """/var/run, or /bin where it is one: they lead to a directory that only root can change."""
    (plan,) = apply_host_files.plan_all([parse({"path": "/var/run/no/such", "state": "absent"})])
    assert not plan.changed
