"""nas_mounts: lines of fstab, and real mounts in a namespace of the test's own, among those of accounts."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mounts import mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import (
    DeclaredMount,
    difference,
    harmless,
    mismatch,
    mount_all,
    retire,
    unit_of,
    with_lines,
    without_lines,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.modules import nas_mounts

SHARE = DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "glusterfs", "_netdev,nosuid,nodev")
LINE = "10.0.0.5:/nas /mnt/nas glusterfs _netdev,nosuid,nodev 0 0\n"
OTHERS = "# /mnt/nas\nUUID=1 / ext4 defaults 0 1\n\nnone none swap sw 0 0\n"


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ("hard,noatime,nosuid,nodev,_netdev", "hard,noatime,nosuid,nodev,_netdev"),
        ("hard", "hard,nosuid,nodev"),
        ("defaults,suid,dev,exec", "defaults,exec,nosuid,nodev"),
        ("nodev,suid", "nodev,nosuid"),
        ("", "nosuid,nodev"),
    ],
)
def test_setuid_programs_and_devices_do_nothing_whatever_the_options_say(options: str, result: str) -> None:
    assert harmless(options) == result


FSTAB: dict[str, tuple[str, str]] = {
    "nothing": ("", LINE),
    "others": (OTHERS, OTHERS + LINE),
    "no end of line": (OTHERS.rstrip(), OTHERS + LINE),
    "there": (LINE + OTHERS, LINE + OTHERS),
    "with other blanks, and without the last fields": (LINE.replace(" ", "\t").replace("\t0\t0", ""),) * 2,
    "with other options": (LINE.replace(",nosuid", "") + OTHERS, LINE + OTHERS),
    "twice": (LINE.replace("nas ", "old ", 1) + OTHERS + LINE, LINE + OTHERS),
    "with a slash at its end": (LINE.replace("/mnt/nas ", "/mnt/nas/ "), LINE),
    # What follows the sixth field is nobody's, whatever it begins with (ansible.posix issues 595 and 743).
    "with words after its last field": (LINE.replace(" 0 0\n", " 0 0 # the NAS\n"),) * 2,
    "with other options, and words after its last field": (
        LINE.replace(",nosuid", "").replace("0\n", "0 # NAS\n"),
        LINE,
    ),
    "without options": ("10.0.0.5:/nas /mnt/nas glusterfs\n" + OTHERS, LINE + OTHERS),
    "with more slashes than it needs": (LINE.replace("/mnt/nas ", "/mnt//nas "), LINE),
    "put out, with a blank before": ("  #" + LINE, "  #" + LINE + LINE),
    "a number sign in a source": ("sshfs#ada@a:/ /a fuse ro 0 0\n", "sshfs#ada@a:/ /a fuse ro 0 0\n" + LINE),
    "no text": ("\udcff /\udcff ext4 ro\n", "\udcff /\udcff ext4 ro\n" + LINE),
}


@pytest.mark.parametrize("case", FSTAB)
def test_one_line_for_each_mount_and_the_others_stay(case: str) -> None:
    before, after = FSTAB[case]
    assert with_lines(before, [SHARE]) == after
    assert with_lines(after, [SHARE]) == after
    left = [line for line in without_lines(after, ["/mnt/nas/"]).splitlines() if not line.lstrip().startswith("#")]
    assert not any("mnt/nas" in line for line in left)


def test_a_blank_in_a_path_is_escaped() -> None:
    odd = DeclaredMount("/mnt/a b", "//x/c d", "cifs", "ro")
    text = with_lines("", [odd])
    assert text == "//x/c\\040d /mnt/a\\040b cifs ro 0 0\n"
    assert with_lines(text, [odd]) == text
    assert without_lines(text, ["/mnt/a b"]) == ""


def on(source: str, fstype: str, path: str = "/mnt/nas") -> dict[str, Mounted]:
    return {path: Mounted(path, "0:9", "/", ("rw",), (), fstype, source)}


MISMATCHED: dict[str, tuple[dict[str, Mounted], str]] = {
    "nothing": ({}, "on /mnt/nas is nothing: expected 10.0.0.5:/nas (glusterfs). Unmount what is there"),
    "an automount alone": (on("systemd-1", "autofs"), "is nothing"),
    "another source": (on("10.0.0.6:/nas", "fuse.glusterfs"), "is 10.0.0.6:/nas (fuse.glusterfs)"),
    "another kind": (on("10.0.0.5:/nas", "nfs4"), "is 10.0.0.5:/nas (nfs4)"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_another_mount_than_the_declared_one_is_named(case: str) -> None:
    seen, words = MISMATCHED[case]
    assert words in str(mismatch(SHARE, seen))


@pytest.mark.parametrize(
    ("mount", "seen"),
    [
        (SHARE, on("10.0.0.5:nas/", "fuse.glusterfs")),
        (DeclaredMount("/mnt/nas/", "10.0.0.5:/nas", "nfs", ""), on("10.0.0.5:/nas/", "nfs4")),
        (DeclaredMount("/mnt/nas", "LABEL=data", "ext4", ""), on("/dev/sda1", "ext4")),
    ],
)
def test_what_is_mounted_as_declared_is_none(mount: DeclaredMount, seen: dict[str, Mounted]) -> None:
    assert mismatch(mount, seen) is None


CEPH = "10.0.0.1:6789,10.0.0.2:6789,10.0.0.3:6789:/volumes/ml"
FSID = "b3acfc0d-575f-41d3-9c91-0e7ed3dbb3fa"
V6 = "[fd00::1]:3300,[fd00::2]:3300:/"
NAMES_OF = {"mon1": "10.0.0.1", "mon2": "10.0.0.2", "g1": "10.0.0.1", "g2": "10.0.0.2", "mons": "10.0.0.1 10.0.0.3"}
# How a source is declared, its kind, how the kernel lists it, and whether that is the same.
SOURCES: dict[str, tuple[str, str, str, str, bool]] = {
    "monitors by name": ("mon1,mon2,mon3:/volumes/ml", "ceph", CEPH, "ceph", True),
    "monitors of one name": ("mons:/volumes/ml", "ceph", "10.0.0.3:6789,10.0.0.1:6789:/volumes/ml", "ceph", True),
    "monitors that nobody knows here": ("mon.elsewhere:/volumes/ml/", "ceph", CEPH, "ceph", True),
    "monitors in another order": ("10.0.0.3,10.0.0.1:/volumes/ml", "ceph", CEPH, "ceph", True),
    "monitors by IPv6": ("[fd00:0::2]:/", "ceph", V6, "ceph", True),
    "another path of Ceph": ("mon1,mon2:/volumes/cv", "ceph", CEPH, "ceph", False),
    "the root of Ceph": ("mon1:/", "ceph", CEPH, "ceph", False),
    "other monitors": ("10.0.0.9,10.0.0.8:/volumes/ml", "ceph", CEPH, "ceph", False),
    "Ceph's newer form": ("admin@.cephfs=/ml", "ceph", f"admin@{FSID}.cephfs=/ml", "ceph", True),
    "Ceph's newer form of the older": ("mon1:/ml", "ceph", f"admin@{FSID}.cephfs=/ml", "ceph", True),
    "another file system of Ceph": ("admin@.fast=/ml", "ceph", f"admin@{FSID}.cephfs=/ml", "ceph", False),
    "another cluster of Ceph": (f"a@{FSID}.fs=/", "ceph", f"a@{FSID[::-1]}.fs=/", "ceph", False),
    "Ceph by FUSE": ("none", "fuse.ceph", "ceph-fuse", "fuse.ceph-fuse", True),
    "GlusterFS, the first server": ("g1,g2:/vol", "glusterfs", "g1:/vol", "fuse.glusterfs", True),
    "GlusterFS, the other server": ("g1,g2:vol", "glusterfs", "g2:/vol", "fuse.glusterfs", True),
    "GlusterFS, by address": ("g1,g2:/vol/sub", "glusterfs", "10.0.0.2:/vol/sub", "fuse.glusterfs", True),
    "another volume": ("g1,g2:/vol", "glusterfs", "g1:/old", "fuse.glusterfs", False),
    "another server of GlusterFS": ("g1:/vol", "glusterfs", "g2:/vol", "fuse.glusterfs", False),
    "Lustre": ("mon1@tcp:mon2@tcp:/scratch", "lustre", "10.0.0.1@tcp:10.0.0.2@tcp:/scratch", "lustre", True),
    "another Lustre": ("mon1@o2ib:/scratch", "lustre", "10.0.0.2@o2ib:/scratch", "lustre", False),
    "JuiceFS": ("redis://10.0.0.1:6379/1", "juicefs", "JuiceFS:ml", "fuse.juicefs", True),
    "S3": ("bucket:/data", "fuse.s3fs", "s3fs", "fuse.s3fs", True),
    "SSHFS": ("ada@mon1:/data", "fuse.sshfs", "ada@mon1:/data", "fuse.sshfs", True),
    "SMB": ("//NAS/ml", "cifs", "//nas/ml", "cifs", True),
    # Helpers that mount NFS by an address of their own (aws/efs-utils 34, 107 and 267; Azure/AZNFS-mount 62).
    "EFS through its tunnel": ("fs-0a1b2c:/ml", "efs", "127.0.0.1:/ml", "nfs4", True),
    "EFS by its whole name": ("fs-0a1b2c:/", "efs", "fs-0a1b2c.efs.eu-west-1.amazonaws.com:/", "nfs4", True),
    "EFS without a path": ("fs-0a1b2c", "efs", "127.0.0.1:/", "nfs4", True),
    "another path of EFS": ("fs-0a1b2c:/ml", "efs", "127.0.0.1:/cv", "nfs4", False),
    "EFS where a disk is": ("fs-0a1b2c:/", "efs", "/dev/nvme1n1", "ext4", False),
    "Azure": ("a.blob.core.windows.net:/a/ml", "aznfs", "10.161.100.100:/a/ml", "nfs", True),
    "NFS as it was written": ("mon1:/export", "nfs4", "mon1:/export", "nfs4", True),
    "NFS of another name": ("mon1:/export", "nfs4", "10.0.0.1:/export", "nfs4", False),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources_are_compared_as_the_kernel_lists_them(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(server: str, _port: None) -> list[Any]:
        found = NAMES_OF.get(server, str(ipaddress.ip_address(server)) if re.match("[0-9f]", server) else "")
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in found.split()]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    source, fstype, listed, kind, same = SOURCES[case]
    found = mismatch(DeclaredMount("/mnt/nas", source, fstype, ""), on(listed, kind))
    assert (found is None) is same
    assert found is None or f"on /mnt/nas is {listed} ({kind}): expected {source} ({fstype})" in str(found)


class Commands:
    """Commands that are noted, and what is mounted after each."""

    def __init__(self, seen: dict[str, Mounted], failing: Sequence[str] = (), answers: bool = True) -> None:
        self.seen, self.failing, self.answers, self.said = seen, failing, answers, list[str]()

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        line = " ".join(argv)
        self.said += [line] if argv[0] != "stat" else []
        if line in self.failing:
            return 32, "", "target is busy"
        if argv[0] == "umount":
            self.seen = {}
        if argv[:2] == ["systemctl", "stop"] or argv[:2] == ["systemctl", "start"]:
            self.seen = on("systemd-1", "autofs") if argv[1] == "start" else {}
        if argv[0] == "mount" or (argv[0] == "stat" and self.answers and self.seen == on("systemd-1", "autofs")):
            flags = ("rw", "nosuid", "nodev")
            self.seen = {"/mnt/nas": Mounted("/mnt/nas", "0:9", "/", flags, (), "fuse.glusterfs", "10.0.0.5:/nas")}
        return 0, "", ""

    def look(self) -> dict[str, Mounted]:
        return self.seen


MOUNTING: dict[str, tuple[dict[str, Mounted], bool, list[str], list[str]]] = {
    "nothing": ({}, False, [], ["mount /mnt/nas"]),
    "another line": (on("10.0.0.5:/nas", "fuse.glusterfs"), True, [], ["mount -o remount /mnt/nas"]),
    "one that cannot be remounted": (
        on("10.0.0.5:/nas", "fuse.glusterfs"),
        True,
        ["mount -o remount /mnt/nas"],
        ["mount -o remount /mnt/nas", "umount /mnt/nas", "mount /mnt/nas"],
    ),
    "another source": (on("old:/nas", "nfs4"), True, [], ["umount /mnt/nas", "mount /mnt/nas"]),
}


@pytest.mark.parametrize("case", MOUNTING)
def test_what_mounts_it_as_its_line_says(case: str) -> None:
    seen, new, failing, expected = MOUNTING[case]
    commands = Commands(seen, failing)
    assert mount_all([SHARE], ["/mnt/nas"] if new else [], commands.run, True, commands.look)[0] == "/mnt/nas: mounted"
    assert commands.said == []
    assert mount_all([SHARE], ["/mnt/nas"] if new else [], commands.run, False, commands.look) == ["/mnt/nas: mounted"]
    assert commands.said == expected
    assert mount_all([SHARE], [], commands.run, False, commands.look) == []


AUTOMOUNTED = DeclaredMount(SHARE.path, SHARE.source, SHARE.fstype, f"x-systemd.automount,{SHARE.options}")
WAITS = on("systemd-1", "autofs")
HANDED = ["systemctl daemon-reload", "umount /mnt/nas", "systemctl start mnt-nas.automount"]
STOPPED = ["systemctl is-active --quiet mnt-nas.automount", "systemctl stop mnt-nas.automount"]
# What is there, which commands fail, whether the automount mounts when it is asked, what is run, and what is done.
AUTOMOUNTING: dict[str, tuple[dict[str, Mounted], list[str], bool, list[str], bool]] = {
    "nothing": ({}, [], True, ["mount /mnt/nas", *HANDED], True),
    "a system without it": ({}, [HANDED[0]], True, ["mount /mnt/nas", HANDED[0]], True),
    "in use at once": ({}, [HANDED[1]], True, ["mount /mnt/nas", *HANDED[:2]], True),
    "one that does not start": ({}, [HANDED[2]], True, ["mount /mnt/nas", *HANDED, "mount /mnt/nas"], True),
    "one that waits": (WAITS, [], True, [], False),
    "one that waits in vain": (WAITS, [], False, [*STOPPED, "mount /mnt/nas", *HANDED], True),
}


@pytest.mark.parametrize("case", AUTOMOUNTING)
def test_an_automount_takes_over_what_can_be_mounted(case: str) -> None:
    seen, failing, answers, expected, mounted_anew = AUTOMOUNTING[case]
    commands = Commands(seen, failing, answers)
    run = commands.run

    def once_it_was_mounted(argv: Sequence[str]) -> tuple[int, str, str]:
        commands.answers |= argv[0] == "mount"
        return run(argv)

    done = mount_all([AUTOMOUNTED], [], once_it_was_mounted, False, commands.look)
    assert (commands.said, done) == (expected, ["/mnt/nas: mounted"] if mounted_anew else [])
    assert commands.seen["/mnt/nas"].fstype == "fuse.glusterfs"
    assert mount_all([AUTOMOUNTED], [], run, True, commands.look) == []


def test_why_an_automount_cannot_mount_is_asked_of_mount_and_it_goes_on_waiting() -> None:
    commands = Commands(WAITS, ["mount /mnt/nas"], answers=False)
    with pytest.raises(GpusteadError, match=r"10\.0\.0\.5:/nas: mount /mnt/nas ended with 32 \(target is busy\)"):
        mount_all([AUTOMOUNTED], [], commands.run, False, commands.look)
    assert commands.said[-1] == "systemctl start mnt-nas.automount"


# As stat(1) of coreutils says it, and our own run.
@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (1, "stat: cannot statx '/mnt/nas/.': Stale file handle", "is stale.*umount -f` /mnt/nas here"),
        (124, "no answer within 90 s, and was killed", "does not answer.*whether the server runs"),
        (1, "stat: cannot statx '/mnt/nas/.': Permission denied", ""),
        (0, "", ""),
    ],
)
def test_a_mounted_share_that_does_not_serve_is_said_with_what_to_do(status: int, said: str, words: str) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (status, "", said) if argv[0] == "stat" else (0, "", "")

    seen = Commands({})
    seen.run(["mount", "/mnt/nas"])
    if not words:
        assert mount_all([SHARE], [], run, False, seen.look) == []
        return
    with pytest.raises(GpusteadError, match=f"10.0.0.5:/nas: on /mnt/nas it {words}"):
        mount_all([SHARE], [], run, False, seen.look)


# As systemd-escape --path says.
@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/mnt/nas", "mnt-nas.mount"),
        ("/mnt//my-nas/", r"mnt-my\x2dnas.mount"),
        ("/a b/ü", r"a\x20b-\xc3\xbc.mount"),
        ("/.x/.y:z_1", r"\x2ex-.y:z_1.mount"),
        ("/", "-.mount"),
    ],
)
def test_units_of_mountpoints_are_called_as_systemd_does(path: str, unit: str) -> None:
    assert unit_of(path, "mount") == unit


def test_what_is_in_use_or_another_is_an_error() -> None:
    busy = Commands(on("old:/nas", "nfs4"), ["umount /mnt/nas"])
    with pytest.raises(GpusteadError, match=r"umount /mnt/nas ended with 32 \(target is busy\)"):
        mount_all([SHARE], ["/mnt/nas"], busy.run, False, busy.look)
    other = Commands(on("old:/nas", "nfs4"))
    with pytest.raises(GpusteadError, match="old:/nas"):
        mount_all([SHARE], [], other.run, False, other.look)
    with pytest.raises(GpusteadError, match="fuser -vm /mnt/nas"):
        retire(["/mnt/nas"], busy.run, False, busy.look)


@pytest.mark.parametrize(
    ("mount", "fstype", "options", "of_all", "command"),
    [
        (SHARE, "fuse.glusterfs", "ro", "rw", "mount -o remount,rw -i /mnt/nas"),
        (SHARE, "fuse.glusterfs", "rw", "ro", "mount -o remount,rw -i /mnt/nas"),
        (DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "nfs4", ""), "nfs4", "ro", "ro", "mount -o remount,rw /mnt/nas"),
        (SHARE, "fuse.glusterfs", "rw", "rw,errors=remount-ro", None),
        (DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "nfs4", "hard,ro"), "nfs4", "ro", "ro", None),
    ],
)
def test_what_became_read_only_is_remounted(
    mount: DeclaredMount, fstype: str, options: str, of_all: str, command: str | None
) -> None:
    flags = (options, "nosuid", "nodev")
    commands = Commands({"/mnt/nas": Mounted("/mnt/nas", "0", "/", flags, (), fstype, mount.source, (of_all,))})
    mount_all([mount], [], commands.run, False, commands.look)
    assert commands.said == ([command] if command else [])


real = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")


@pytest.fixture
def tools(namespace: None, tmp_path: Path) -> Run:
    """mount(8) with a table of the test's own."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        table = ["-T", str(tmp_path / "fstab")] if argv[0] == "mount" else []
        done = subprocess.run([argv[0], *table, *argv[1:]], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


NAMES = [os.fsdecode(b"\xff"), "a\rb", "a\x0b1 1 0:1 / /mnt/nas rw - nfs4 x:/ rw", "a\x85b"]


@real
def test_what_accounts_have_mounted_is_no_obstacle(tools: Run, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "home" / name.replace("/", "_")).mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "own", tmp_path / "home" / name.replace("/", "_")], check=True)
    (tmp_path / "nas").mkdir()
    share = DeclaredMount(str(tmp_path / "nas"), "share", "tmpfs", "size=1m,nosuid,nodev")
    (tmp_path / "fstab").write_text(with_lines("", [share]))
    assert mount_all([share], [share.path], tools, False) == [f"{share.path}: mounted"]
    assert mount_all([share], [], tools, False) == []
    assert retire([share.path], tools, True) == retire([share.path], tools, False) == [f"{share.path}: unmounted"]
    assert share.path not in mounted()
    assert retire([share.path], tools, False) == []


@real
def test_the_module_keeps_fstab_where_a_share_cannot_be_mounted(
    tools: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nas_mounts, "FSTAB", str(tmp_path / "fstab"))
    monkeypatch.setattr(nas_mounts, "within", lambda *_arguments, **_more: tools)
    (tmp_path / "nas").mkdir()
    (tmp_path / "fstab").write_text(OTHERS)

    def run(**arguments: Any) -> dict[str, Any]:
        capsys.readouterr()
        with patch_module_args(arguments), pytest.raises(SystemExit):
            nas_mounts.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    share = {"path": str(tmp_path / "nas"), "source": "share", "fstype": "tmpfs", "options": "size=1m,nosuid,nodev"}
    broken = {**share, "fstype": "nosuchfs"}
    assert "nosuchfs" in run(mounts=[broken])["msg"]
    assert (tmp_path / "fstab").read_text() == OTHERS
    planned = run(mounts=[share], _ansible_check_mode=True)
    assert (planned["changed"], (tmp_path / "fstab").read_text()) == (True, OTHERS)
    line = f"share {tmp_path}/nas tmpfs size=1m,nosuid,nodev 0 0\n"
    done = run(mounts=[share])
    assert done["diff"]["after"] == f"{line}{tmp_path}/nas: mounted\n"
    assert Path(done["backup_file"]).read_text() == OTHERS
    assert (tmp_path / "fstab").read_text() == OTHERS + line
    assert not run(mounts=[share])["changed"]
    gone = run(state="absent", paths=[share["path"]])
    assert (gone["done"], (tmp_path / "fstab").read_text()) == ([f"{tmp_path}/nas: unmounted"], OTHERS)
    assert not run(state="absent", paths=[share["path"]])["changed"]


@real
@pytest.mark.parametrize("flags", ["suid,nodev", "dev,nosuid", "suid,dev,noexec,noatime"])
def test_setuid_programs_that_work_again_are_taken_away(tools: Run, tmp_path: Path, flags: str) -> None:
    share = DeclaredMount(str(tmp_path), "share", "tmpfs", harmless("size=1m"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev", "share", tmp_path], check=True)
    subprocess.run(["mount", "-o", f"remount,bind,{flags}", tmp_path], check=True)
    kept = {"noexec", "noatime"} & set(flags.split(","))
    expected = [f"{tmp_path}: mounted nosuid,nodev"]
    assert mount_all([share], [], tools, True) == mount_all([share], [], tools, False) == expected
    assert {"nosuid", "nodev", *kept} <= set(mounted()[share.path].options)
    assert mount_all([share], [], tools, False) == []


def test_what_is_shown_of_fstab_is_what_changes() -> None:
    before = "//x/y /z cifs password=secret 0 0\n"
    after = with_lines(before, [SHARE])
    assert (difference(before, after), difference(after, before)) == ("", LINE)


# As mount.nfs4 of nfs-utils 2.8 said it on a host with a kernel of its own, and mount.nfs on those of others; the last
# are of its error.c.
SAID = {
    "mount.nfs4: mounting 10.0.0.5:/export/wrong failed, reason given by server: No such file or directory": "exportfs",
    "mount.nfs4: Failed to resolve server nosuch: Name or service not known": "Correct the name",
    "no answer within 90 s, and was killed": "firewall",
    "mount.nfs4: access denied by server while mounting 10.0.0.5:/export": "this host's address",
    "mount.nfs4: requested NFS version or transport protocol is not supported for /mnt/nas": "vers=",
    "mount.nfs4: Connection refused for 10.0.0.5:/export on /mnt/nas": "server runs",
    "mount.nfs: access denied by server while mounting 10.0.0.5:/export": "this host's address",
    "mount.nfs: requested NFS version or transport protocol is not supported": "cluster_nfs_version",
    "mount.nfs: Protocol not supported for 10.0.0.5:/export on /mnt/nas": "cluster_nfs_version",
    "mount.nfs: portmap query failed: RPC: Unable to receive - Connection refused": "rpcinfo -p",
    "mount.nfs: portmap query failed: RPC: Remote system error - Connection timed out": "rpcinfo -p",
    "mount.nfs: portmap query failed: RPC: Program not registered": "rpcinfo -p",
    "mount.nfs: rpc.statd is not running but is required for remote locking.\n"
    "mount.nfs: Either use '-o nolock' to keep locks local, or start statd.": "rpc-statd",
    "mount.nfs: mounting 10.0.0.5:/no failed, reason given by server: No such file or directory": "exportfs",
    "mount.nfs: No route to host for 10.0.0.5:/export on /mnt/nas": "firewall",
    "mount.nfs: Stale file handle for 10.0.0.5:/export on /mnt/nas": "umount -f",
    "mount: /mnt/nas: bad option; for several filesystems you might need a /sbin/mount.nfs4 helper program.": "Install",
    "mount: /mnt/nas: unknown filesystem type 'lustre'.": "Install",
    "something else": "by hand",
}


@pytest.mark.parametrize("said", SAID)
def test_a_share_that_cannot_be_mounted_has_its_source_and_a_remedy(said: str) -> None:
    share = DeclaredMount("/mnt/nas", "10.0.0.5:/export", "nfs4", "hard")

    def run(argv: Sequence[str], **_how: Any) -> tuple[int, str, str]:
        return 32, "", said

    with pytest.raises(GpusteadError, match=re.escape(SAID[said])) as caught:
        mount_all([share], [], run, check=False, look=dict)
    assert str(caught.value).startswith("10.0.0.5:/export: mount /mnt/nas ended with 32 (")
