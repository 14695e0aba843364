"""The move of a single node's files to a share: who is asked for, who is in the way, and what stays of the place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import apply_binds, declared
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mountinfo, mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import move_share
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mountpoint import Mountpoint
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import DeclaredMount
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
NAS = DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "nfs4", "hard,nosuid,nodev")
PLACE = Bind("share", "/", "mnt/nas", cover=True, own=True)
HOME = Bind("home", "/mnt/nas", "users/ada", mounted=True)
OWN_DISK = "40 30 8:1 /mnt/nas /mnt/nas rw,nosuid,nodev - ext4 /dev/sda1 rw"
SHARE = "41 40 0:60 / /mnt/nas rw,nosuid,nodev - nfs4 10.0.0.5:/nas rw"


@pytest.mark.parametrize(
    ("lines", "sets", "expected"),
    [
        ([OWN_DISK], {"share": [PLACE]}, "local"),
        ([], {"share": [PLACE]}, "local"),
        ([OWN_DISK, SHARE], {"share": [PLACE]}, "shared"),
        ([OWN_DISK, SHARE.replace("10.0.0.5", "10.0.0.6")], {"share": [PLACE]}, "local"),
        ([SHARE], {}, ""),
        ([SHARE], {"workspace": [HOME]}, ""),
        ([OWN_DISK], {"export": [Bind("export", "/", "mnt/nas", cover=True)]}, ""),
    ],
)
def test_where_the_files_are(lines: list[str], sets: dict[str, list[Bind]], expected: str) -> None:
    assert move_share.where(NAS, sets, mountinfo.parse("".join(f"{line}\n" for line in lines))) == expected


def test_an_automount_that_waits_is_no_directory_of_the_own_disk() -> None:
    waiting = "41 40 0:60 / /mnt/nas rw,relatime - autofs systemd-1 rw,direct"
    with pytest.raises(GpusteadError, match=r"nothing is mounted but its automount.*10\.0\.0\.5:/nas"):
        move_share.where(NAS, {"share": [PLACE]}, mountinfo.parse(f"{OWN_DISK}\n{waiting}\n"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("hard,_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=60,nosuid", "hard,nosuid"),
        ("noauto,comment=x,defaults", ""),
        ("", ""),
    ],
)
def test_options_of_a_mount_by_hand(options: str, expected: str) -> None:
    assert move_share.helper_options(options) == expected


def test_containers_that_bind_something_of_it() -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert argv[:2] == ["docker", "ps"]
        return 0, f"work\t{DIRECTORY}/workspace/home,x\nby hand\t/mnt/nas/users/ada\nother\t/mnt/nas2,volume\n", ""

    found = move_share.containers("/mnt/nas", {"share": [PLACE], "workspace": [HOME]}, run)
    assert found == ["container work", "container by hand"]


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@pytest.fixture
def place(tmp_path: Path, namespace: None) -> Path:
    top = tmp_path / "place"
    top.mkdir()
    mount("-t", "tmpfs", "disk", top)
    (top / "file").write_text("x")
    return top


def idle(_argv: Sequence[str]) -> tuple[int, str, str]:
    """No container runs."""
    return 0, "", ""


@ROOT
def test_nobody_writes_any_more_and_then_again(place: Path) -> None:
    move_share.freeze(str(place), {}, idle, check=True)
    (place / "file").write_text("y")
    move_share.freeze(str(place), {}, idle)
    move_share.freeze(str(place), {}, idle)  # taken up again
    with pytest.raises(OSError, match="Read-only"):
        (place / "file").write_text("z")
    move_share.thaw(str(place), {}, idle)
    (place / "file").write_text("z")


@ROOT
def test_a_place_that_was_closed_is_opened_again_where_the_share_could_not_be_mounted(
    tmp_path: Path, namespace: None
) -> None:
    for above in (tmp_path, *tmp_path.parents):
        above.chmod(above.stat().st_mode | 0o011)
    place, run = tmp_path / "nas", within(60)
    (place / ".cluster").mkdir(parents=True)
    os.chown(place / ".cluster", 61941, 61941)
    sets = {"share": [Bind("share", "/", str(place).lstrip("/"), cover=True, own=True)]}
    point = Mountpoint(str(place), run)
    try:
        assert point.protect(point.observe()).protected
        move_share.freeze(str(place), sets, lambda argv: idle(argv) if argv[0] == "docker" else run(argv))
        with pytest.raises(OSError, match="Read-only"):
            (place / "file").write_text("x")
        move_share.thaw(str(place), sets, run)
        (place / "file").write_text("x")
        status = place.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (61941, 61941, 0o1775)
        assert mounts.mounted()[str(place)].is_harmless
    finally:
        subprocess.run(["umount", place], check=False)
        subprocess.run(["chattr", "-i", place], check=False)


@ROOT
def test_who_stands_in_it_is_named(place: Path) -> None:
    waits = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", waits]
    with subprocess.Popen(command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(GpusteadError, match=rf"in use: process {process.pid} of uid 0 \({place}\)"):
            move_share.freeze(str(place), {}, idle)
        (place / "file").write_text("people go on")
        process.communicate()
    move_share.freeze(str(place), {}, idle)


@ROOT
def test_a_file_that_is_open_to_be_written_is_seen_by_the_kernel(place: Path) -> None:
    with (place / "file").open("w"), pytest.raises(GpusteadError, match="open to be written"):
        move_share.freeze(str(place), {}, idle)
    (place / "file").write_text("people go on")


@ROOT
def test_the_share_is_mounted_for_the_while_alone(tmp_path: Path, namespace: None) -> None:
    stage = tmp_path / "stage"
    share = DeclaredMount("/mnt/nas", "nas", "tmpfs", "nosuid,nodev,_netdev,x-systemd.automount")
    run = within(60)
    stage.mkdir()
    mount("-t", "tmpfs", "killed", stage)  # of a run that was killed
    with move_share.staged(share, run, str(stage)) as at:
        found = mounts.mounted()[at]
        assert (found.source, found.is_harmless) == ("nas", True)
    assert str(stage) not in mounts.mounted()
    with (
        pytest.raises(GpusteadError, match="mount -t nokind nas"),
        move_share.staged(DeclaredMount("/mnt/nas", "nas", "nokind", ""), run, str(stage)),
    ):
        pass


@ROOT
def test_one_move_waits_for_another(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with move_share.alone(lock), pytest.raises(GpusteadError, match="another run"), move_share.alone(lock, wait=0.1):
        pass
    with move_share.alone(lock, wait=0):
        pass


@ROOT
def test_the_place_is_forgotten_once_the_share_hides_it(tmp_path: Path, namespace: None) -> None:
    for above in (tmp_path, *tmp_path.parents):
        above.chmod(above.stat().st_mode | 0o011)
    place, run = tmp_path / "nas", within(60)
    place.mkdir()
    (place / "users").mkdir()
    (place / "users/mine").write_text("original")
    directory, folder = str(tmp_path / "run/binds"), str(tmp_path / "binds.d")

    def settle(check: bool = False) -> bool:
        return move_share.settle(share, run, check, directory=directory, sets=folder)

    sets = {
        "share": [Bind("share", "/", str(place).lstrip("/"), cover=True, own=True)],
        "workspace": [Bind("users", str(place), "users", mounted=True)],
    }
    for name, of_set in sets.items():
        declared.write(name, of_set, declared=folder)
        assert apply_binds.apply(name, of_set, directory=directory, declared=folder).refused == []
    share = DeclaredMount(str(place), "nas", "tmpfs", "nosuid,nodev")
    subprocess.run(["umount", place], check=True)
    with pytest.raises(GpusteadError, match=r"on .* is nothing"):
        settle()
    mount("-t", "tmpfs", "-o", "nosuid,nodev", "nas", place)
    with pytest.raises(GpusteadError, match=r"beneath .* has mode 755"):
        settle()
    point = Mountpoint(str(place), run)
    point.protect(point.observe())
    try:
        assert settle(check=True)
        assert settle()
        assert not settle()
        assert (declared.covered(folder), [*declared.read(folder)]) == (
            frozenset(),
            ["workspace"],
        )
        # What containers would still see of the own disk.
        assert f"{directory}/workspace/users" not in mounts.mounted()
        subprocess.run(["umount", place], check=True)
        assert (place / "users/mine").read_text() == "original"
        assert place.stat().st_mode & 0o077 == 0
    finally:
        subprocess.run(["chattr", "-i", place], check=False)
