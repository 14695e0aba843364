# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Limits of accounts on the file system of an export, from what Debian's quota tools say, and the notes of them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import quota_report
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_quotas import (
    Change,
    Observed,
    apply,
    kib_of,
    limits,
    observe,
    plan,
    without_quotas,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.quota_report import AccountQuota, parse, sentence
from ansible_collections.gpustead.cluster.plugins.modules import nas_quotas

# The columns are of quota 4.06 and 4.09, as others have captured them (`repquota -O csv`); -v and -n add nothing but
# accounts without usage, and numbers for names.
REPORT = """\
User,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace
#0,ok,ok,20,0,0,,2,0,0,
#1500,ok,ok,1572864,2097152,2097152,,412,0,0,
#1501,+,ok,2097152,2097152,2097152,7days,904,100,200,
#1502,ok,ok,0,524288,524288,,0,0,0,
"""
NO_QUOTA = "quotaon: Mountpoint (or device) /srv not found or has no quota enabled."
ADA, BOB, EVE = 1500, 1501, 1502


@pytest.mark.parametrize(
    ("text", "kib"), [("500G", 500 << 20), ("1t", 1 << 30), ("20M", 20480), ("7K", 7), ("0", 0), (0, 0)]
)
def test_sizes(text: Any, kib: int) -> None:
    assert kib_of(text, "nas_quota") == kib


@pytest.mark.parametrize("text", ["500", "G", "-1G", "1.5T", "0G", "500GB", "many", None])
def test_what_is_no_size_is_named(text: Any) -> None:
    with pytest.raises(GpusteadError, match=f"nas_quota is '{text}': expected a size.*as 500G"):
        kib_of(text, "nas_quota")


USERS: list[dict[str, Any]] = [
    {"name": "ada", "uid": ADA},
    {"name": "bob", "uid": "1501", "quota": "1T"},
    {"name": "eve", "uid": EVE, "quota": 0},
]


def test_an_account_has_the_usual_limit_or_its_own() -> None:
    assert limits("500G", USERS) == {"1500": 500 << 20, "1501": 1 << 30, "1502": 0}
    assert limits(0, USERS) == {"1500": 0, "1501": 1 << 30, "1502": 0}
    assert limits("", USERS) == {}
    with pytest.raises(GpusteadError, match="quota of bob in cluster_users is 'much'"):
        limits("1G", [{**USERS[1], "quota": "much"}])
    with pytest.raises(GpusteadError, match="zoe in cluster_users has no uid"):
        limits("1G", [{"name": "zoe"}])


def test_what_accounts_have_and_may_have() -> None:
    assert parse(REPORT) == {
        0: AccountQuota(20, 0, 0, 2, 0, 0),
        ADA: AccountQuota(1572864, 2097152, 2097152, 412, 0, 0),
        BOB: AccountQuota(2097152, 2097152, 2097152, 904, 100, 200),
        EVE: AccountQuota(0, 524288, 524288, 0, 0, 0),
    }


# As `quotaon -pvu` of quota 4.06 and 4.09 says them.
@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("user quota on /srv (/dev/vdb1) is on (enforced)\n", "enforced"),
        ("user quota on /srv (/dev/vdb1) is on (accounting)\n", "accounting"),
        ("user quota on /srv (/dev/vdb1) is on\n", "enforced"),
        ("user quota on /srv (/dev/vdb1) is off\n", "off"),
        ("group quota on /srv (/dev/vdb1) is on (enforced)\nuser quota on /srv (/dev/vdb1) is off\n", "off"),
        ("", "off"),
    ],
)
def test_whether_quotas_are_on(said: str, state: str) -> None:
    assert quota_report.state(said) == state


class Tools:
    """Debian's quota tools over a file system of its own."""

    def __init__(self, state: str, report: str = REPORT) -> None:
        self.state, self.report, self.said = state, report, list[str]()

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.said.append(" ".join(argv))
        if argv[0] == "quotaon":
            return (1, self.state, "") if self.state else (0, "", NO_QUOTA)
        return 0, self.report if argv[0] == "repquota" else "", ""


def seen(tmp_path: Path, state: str, fstype: str = "ext4") -> Observed:
    place = quota_report.place_of(str(tmp_path))
    mount = Mounted(place, "8:1", "/", ("rw",), (), fstype, "/dev/vdb1")
    return observe(str(tmp_path), Tools(state).run, {place: mount})


def test_the_place_of_a_directory_is_where_its_file_system_is_mounted(tmp_path: Path) -> None:
    place = quota_report.place_of(str(tmp_path))
    assert os.path.ismount(place) and str(tmp_path).startswith(place)
    (tmp_path / "link").symlink_to("/proc/self")
    assert quota_report.place_of(str(tmp_path / "link")) == "/proc"


def test_what_is_there_is_looked_at(tmp_path: Path) -> None:
    found = seen(tmp_path, "user quota on / (/dev/vdb1) is on (enforced)\n")
    assert (found.fstype, found.device, found.state) == ("ext4", "/dev/vdb1", "enforced")
    assert found.quotas == parse(REPORT)
    none = seen(tmp_path, "")
    assert (none.state, none.quotas, none.said) == ("off", {}, NO_QUOTA)


OFF = "user quota on /srv (/dev/vdb1) is off\n"
REFUSED: dict[str, tuple[str, str, str]] = {
    "ext4": ("ext4", "", "has no user quotas (quotaon: Mountpoint"),
    "ext4, and how": (
        "ext4",
        OFF,
        "umount /srv, tune2fs -O quota /dev/vdb1, usrquota among its options in /etc/fstab, mount",
    ),
    "ext4 that counts": ("ext4", OFF.replace("off", "on (accounting)"), "quotaon /srv, and usrquota among its options"),
    "xfs": ("xfs", OFF, "the option uquota in /etc/fstab, for / rootflags=uquota to the kernel"),
    "another": ("btrfs", "", "Export a directory of an ext4 or xfs file system, or take nas_quota out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_system_without_quotas_is_named_with_how_its_owner_turns_them_on(case: str) -> None:
    fstype, state, words = REFUSED[case]
    found = Observed("/srv", fstype, "/dev/vdb1", quota_report.state(state), {}, "" if state else NO_QUOTA)
    text = str(without_quotas("/srv/export", found))
    assert f"/srv/export lies on /srv ({fstype}, /dev/vdb1), which has no user quotas" in text
    assert words in text and text.endswith("This role changes no file system of yours.")


def test_only_what_differs_is_set_and_limits_of_files_stay() -> None:
    found = Observed("/srv", "ext4", "/dev/vdb1", "enforced", parse(REPORT))
    changes = plan({ADA: 2097152, BOB: 1 << 30, EVE: 0, 1503: 7}, found)
    none = AccountQuota(0, 0, 0, 0, 0, 0)
    assert changes == [
        Change(BOB, found.quotas[BOB], 1 << 30),
        Change(EVE, found.quotas[EVE], 0),
        Change(1503, none, 7),
    ]
    assert [*map(str, changes)] == [
        "uid 1501: 2 GiB, now 1 TiB",
        "uid 1502: 512 MiB, now no limit",
        "uid 1503: no limit, now 7 KiB",
    ]
    tools = Tools("")
    apply(changes, "/srv", tools.run)
    assert tools.said == [
        "setquota --user -- 1501 1073741824 1073741824 100 200 /srv",
        "setquota --user -- 1502 0 0 0 0 /srv",
        "setquota --user -- 1503 7 7 0 0 /srv",
    ]
    assert plan({}, found) == plan({ADA: 2097152}, found) == []
    # A soft limit of somebody else's would let an account write only for some days.
    soft = Observed("/srv", "ext4", "/dev/vdb1", "enforced", {ADA: AccountQuota(0, 4, 8, 0, 0, 0)})
    assert [one.limit for one in plan({ADA: 8}, soft)] == [8]


def test_what_setquota_says_is_said() -> None:
    said = "setquota: Mountpoint (or device) /srv not found or has no quota enabled."
    with pytest.raises(GpusteadError, match=r"setquota --user -- 1500 1 1 0 0 /srv ended with 1 .*no quota enabled"):
        apply([Change(ADA, AccountQuota(0, 0, 0, 0, 0, 0), 1)], "/srv", lambda _argv: (1, "", said))


def test_an_account_reads_what_it_has() -> None:
    assert sentence(parse(REPORT)[ADA], 0) == "You have 1.5 GiB of 2 GiB on the share, 75 % (1970-01-01 00:00 UTC).\n"


def test_notes_are_each_ones_own_and_those_of_others_go(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        quota_report.write(str(tmp_path), {os.getuid(): "x"})
    place = tmp_path / ".cluster" / "quotas"
    place.parent.mkdir()
    quota_report.write(str(tmp_path), {os.getuid(): "first"})
    (place / "1999").write_text("of one that is gone")
    (place / f".{os.getuid()}.tmp").write_text("left by one that was killed")
    quota_report.write(str(tmp_path), {os.getuid(): "second"})
    assert {path.name: path.read_text() for path in place.iterdir()} == {str(os.getuid()): "second"}
    status = (place / str(os.getuid())).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o400, os.getuid())


def test_what_lies_in_the_way_of_one_note_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / ".cluster" / "quotas"
    (place / "1999").mkdir(parents=True)
    (place / "odd\n").mkdir()
    quota_report.write(str(tmp_path), {1999: "x", os.getuid(): "mine"})
    assert (place / str(os.getuid())).read_text() == "mine"
    said = capsys.readouterr().err
    assert "'1999': " in said and "'odd\\n': " in said


def test_a_link_in_the_place_of_the_notes_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".cluster").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".cluster/quotas").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="quotas"):
        quota_report.write(str(tmp_path), {os.getuid(): "x"})
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_the_program_notes_by_itself(tmp_path: Path) -> None:
    """As the unit runs it, with a repquota of the test's own."""
    (tmp_path / "repquota").write_text(f"#!/bin/sh\necho '#{os.getuid()},ok,ok,1,2,2,,0,0,0,'\n")
    (tmp_path / "repquota").chmod(0o755)
    (tmp_path / "export/.cluster").mkdir(parents=True)
    command = [sys.executable, "-IB", str(quota_report.__file__), str(tmp_path / "export")]
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(command, check=True, env={"PATH": path})
    note = tmp_path / "export/.cluster/quotas" / str(os.getuid())
    assert note.read_text().startswith("You have 1 KiB of 2 KiB on the share, 50 %")


def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tools: Tools, **given: Any) -> Any:
    monkeypatch.setattr(nas_quotas, "within", lambda *_how, **_more: tools.run)
    with patch_module_args(given), pytest.raises(SystemExit):
        nas_quotas.main()
    return json.loads(capsys.readouterr().out)


ON = "user quota on /srv (/dev/vdb1) is on (enforced)\n"


def test_the_module_sets_what_differs_and_a_check_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"1500": 2097152, "1501": 4}
    for check in (True, False):
        tools = Tools(ON)
        found = answer(monkeypatch, capsys, tools, path=str(tmp_path), limits=limits, _ansible_check_mode=check)
        assert (found["changed"], found["changes"]) == (True, ["uid 1501: 2 GiB, now 4 KiB"])
        assert found["diff"] == {"before": {"1501": 2097152}, "after": {"1501": 4}}
        assert any(line.startswith("setquota") for line in tools.said) is not check
    assert not answer(monkeypatch, capsys, Tools(ON), path=str(tmp_path), limits={"1500": 2097152})["changed"]


def test_the_module_refuses_a_file_system_without_quotas_and_has_nothing_to_take_back_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(monkeypatch, capsys, Tools(""), path=str(tmp_path), limits={"1500": 1})
    assert found["failed"] and "which has no user quotas" in found["msg"] and NO_QUOTA in found["msg"]
    for path in (str(tmp_path), "/no/such/export"):
        assert not answer(monkeypatch, capsys, Tools(""), path=path, limits={"1500": 0})["changed"]
    assert "no/such" in answer(monkeypatch, capsys, Tools(""), path="/no/such/export", limits={"1500": 1})["msg"]
