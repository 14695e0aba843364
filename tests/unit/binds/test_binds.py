"""binds: real mounts in a namespace of the test's own, and what an account can lay in their way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import apply_binds, fstab, program
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import parse as parse_bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import read, write
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.observe_place import open_place
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import parse
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render
from ansible_collections.gpustead.cluster.tests.unit.silent_mount import silent

ROLE = Path(__file__).parents[3] / "roles/binds"
ADA, BOB = 61500, 61501
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="mounts"), pytest.mark.usefixtures("namespace")]


def mount(*arguments: Any) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share with the directories of two accounts."""
    top = tmp_path / "nas"
    top.mkdir()
    mount("-t", "tmpfs", "nas", top)
    for name, uid in (("ada", ADA), ("bob", BOB)):
        own = top / "users" / name
        own.mkdir(parents=True, mode=0o700)
        (own / "mark").write_text(name)
        os.chown(own, uid, uid)
    (top / "shared").mkdir()
    return top


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run/binds"


def homes(share: Path, **changed: Any) -> list[Bind]:
    return [
        Bind(name, str(share), f"users/{name}", owner=uid, mounted=True, **changed)
        for name, uid in (("ada", ADA), ("bob", BOB))
    ]


def apply(run: Path, places: list[Bind], **how: Any) -> apply_binds.Outcome:
    return apply_binds.apply("w", places, directory=str(run), declared=f"{run}.d", **how)


def options(path: Path) -> set[str]:
    return set(mounts.mounted()[str(path)].options)


def test_each_place_is_mounted_once_without_setuid_and_devices(share: Path, run: Path) -> None:
    first = apply(run, homes(share))
    assert (first.mounted, first.refused, len(first.changes)) == (["ada", "bob"], [], 2)
    assert (run / "w/ada/mark").read_text() == "ada"
    assert {"nosuid", "nodev", "rw"} <= options(run / "w/ada")
    assert run.stat().st_mode & 0o777 == 0o700
    second = apply(run, homes(share))
    assert (second.changes, second.replaced, second.mounted) == ([], [], ["ada", "bob"])
    third = apply(run, homes(share)[1:])
    assert [name for name, _, _ in third.changes] == ["ada"]
    assert not (run / "w/ada").exists()


@pytest.mark.parametrize("name", ["a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\rb", os.fsdecode(b"\xff - \\")])
def test_an_accounts_own_mount_stops_nothing(name: str, share: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    mount("-t", "tmpfs", "fuse", tmp_path / name)
    assert apply(run, homes(share)).mounted == ["ada", "bob"]
    assert str(tmp_path / name) in mounts.mounted()


def link_to_root(share: Path) -> None:
    (share / "users/ada").rename(share / "users/.a")
    (share / "users/ada").symlink_to("/")


def link_on_the_way(share: Path) -> None:
    (share / "users").rename(share / ".u")
    (share / "users").symlink_to(share / ".u")


def the_others(share: Path) -> None:
    (share / "users/ada").rename(share / "users/.a")
    (share / "users/bob").rename(share / "users/ada")
    (share / "users/bob").mkdir()
    os.chown(share / "users/bob", BOB, BOB)


def fifo(share: Path) -> None:
    (share / "users/ada").rename(share / "users/.a")
    os.mkfifo(share / "users/ada")


def nothing(share: Path) -> None:
    (share / "users/ada").rename(share / "users/.a")


ATTACKS: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "a link to /": (link_to_root, "users/ada is a symbolic link", ["bob"]),
    "a link on the way": (link_on_the_way, "users is a symbolic link", []),
    "another's directory": (the_others, f"users/ada belongs to uid {BOB}", ["bob"]),
    "a FIFO": (fifo, "users/ada is no directory", ["bob"]),
    "nothing": (nothing, "users/ada is not there", ["bob"]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_an_account_puts_in_its_place_is_refused_and_stops_no_other(share: Path, run: Path, attack: str) -> None:
    do, what, others = ATTACKS[attack]
    do(share)
    outcome = apply(run, homes(share))
    assert outcome.mounted == others
    assert what in outcome.refused[0]["what"]
    assert outcome.refused[0]["remedy"]
    # Nothing is left that Docker could bind.
    assert sorted(path.name for path in (run / "w").iterdir()) == others


@pytest.mark.parametrize(
    ("uid", "refused"),
    [
        pytest.param(ADA, False, id="that one"),
        pytest.param(BOB, True, id="another account of the host"),
        pytest.param(BOB + 1, False, id="no account's"),
        pytest.param(0, False, id="root's"),
        pytest.param(999, False, id="a service's"),
        pytest.param(65534, False, id="nobody's"),
    ],
)
def test_what_is_for_all_may_belong_to_one_account_alone(
    share: Path, run: Path, monkeypatch: pytest.MonkeyPatch, uid: int, refused: bool
) -> None:
    known = dict.fromkeys((0, 999, ADA, BOB, 65534), ("name",))
    monkeypatch.setattr("pwd.getpwuid", lambda uid: known[uid])
    os.chown(share / "shared", uid, uid)
    outcome = apply(run, [Bind("shared", str(share), "shared", only_account=ADA)])
    assert bool(outcome.refused) is refused


def test_what_was_mounted_stays_while_it_is_the_accounts_own(share: Path, run: Path) -> None:
    apply(run, homes(share))
    link_to_root(share)
    outcome = apply(run, homes(share))
    assert ([one["name"] for one in outcome.refused], outcome.mounted) == (["ada"], ["ada", "bob"])
    assert (run / "w/ada/mark").read_text() == "ada"
    os.chown(share / "users/.a", BOB, BOB)
    assert apply(run, homes(share)).mounted == ["bob"]
    assert not (run / "w/ada").exists()


def test_a_check_changes_nothing(share: Path, run: Path) -> None:
    outcome = apply(run, homes(share), check=True)
    assert len(outcome.changes) == 2
    assert not run.exists()
    apply(run, homes(share))
    assert apply(run, homes(share), check=True).changes == []


def test_another_place_or_other_flags_are_replaced(share: Path, run: Path) -> None:
    apply(run, homes(share))
    (share / "users/ada").rename(share / "users/.a")
    (share / "users/ada").mkdir()
    os.chown(share / "users/ada", ADA, ADA)
    mount("-o", "remount,bind,suid,dev", run / "w/bob")
    outcome = apply(run, homes(share))
    assert sorted(outcome.replaced) == ["ada", "bob"]
    assert not (run / "w/ada/mark").exists()
    assert {"nosuid", "nodev"} <= options(run / "w/bob")
    assert apply(run, homes(share, read_only=True)).replaced == ["ada", "bob"]
    assert "ro" in options(run / "w/ada")
    subprocess.run(["umount", run / "w/ada"], check=True)
    assert apply(run, homes(share, read_only=True)).mounted == ["ada", "bob"]


@pytest.mark.parametrize(("propagation", "seen"), [("rslave", True), ("rprivate", False), ("rshared", True)])
def test_later_mounts_are_seen_as_declared_and_never_go_back(
    share: Path, run: Path, propagation: str, seen: bool
) -> None:
    (share / "shared/sub").mkdir()
    place = parse_bind({"name": "s", "root": str(share), "path": "shared", "propagation": propagation})
    apply(run, [place])
    mount("-t", "tmpfs", "sub", share / "shared/sub")
    assert (str(run / "w/s/sub") in mounts.mounted()) == seen
    tags = " ".join(mounts.mounted()[str(run / "w/s")].tags)
    assert ("shared:" in tags, "master:" in tags) == (propagation == "rshared", propagation != "rprivate")
    # What came later is without setuid programs, too, after the next run.
    apply(run, [place])
    assert all(
        {"nosuid", "nodev"} <= set(one.options) for path, one in mounts.mounted().items() if str(run / "w/s") in path
    )
    assert apply(run, [place]).changes == []
    apply(run, [])
    assert str(share / "shared/sub") in mounts.mounted()


def test_an_accounts_own_mount_in_a_place_is_refused_before_it_is_asked(share: Path, run: Path) -> None:
    apply(run, homes(share))
    began = time.monotonic()
    with silent(share / "users/ada", ADA):
        outcome = apply(run, homes(share), timeout=20)
    assert time.monotonic() - began < 5
    assert outcome.mounted == ["bob"]
    assert f"users/ada is a mount that uid {ADA} has made (fuse.own)" in outcome.refused[0]["what"]
    assert "umount -l" in outcome.refused[0]["remedy"]
    assert apply(run, homes(share)).mounted == ["ada", "bob"]


def test_a_place_that_does_not_answer_stops_no_other_and_no_other_run(
    share: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_binds, "WAIT", 3)
    with silent(share / "users/ada", 0):
        for _again in range(2):  # the first one's child still waits
            outcome = apply(run, homes(share), timeout=4)
            assert outcome.mounted == ["bob"]
            assert "did not answer" in outcome.refused[0]["what"]


def test_a_share_that_does_not_answer_is_not_asked_for_each_place(share: Path, run: Path) -> None:
    with silent(share, 0):
        outcome = apply(run, homes(share), timeout=1)
    assert outcome.mounted == []
    assert f"{share} did not answer" in outcome.refused[1]["what"]


def test_another_run_is_not_waited_for_without_end(share: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_binds, "WAIT", 0.2)
    run.parent.mkdir()
    hold = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, 2); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, f"{run}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout and other.stdout.readline()
        with pytest.raises(GpusteadError, match=r"lock was held by another run.*fuser -v"):
            apply(run, homes(share))
        other.stdin.close()
    assert apply(run, homes(share)).mounted == ["ada", "bob"]


def test_nothing_is_bound_from_a_share_that_is_not_mounted(tmp_path: Path, run: Path) -> None:
    (tmp_path / "nas/users/ada").mkdir(parents=True)
    os.chown(tmp_path / "nas/users/ada", ADA, ADA)
    outcome = apply(run, homes(tmp_path / "nas")[:1])
    assert outcome.mounted == []
    assert "nothing is mounted on" in outcome.refused[0]["what"]


def test_a_receipt_sees_what_became_of_a_mount(share: Path, run: Path) -> None:
    about = {"name": str(run / "w/ada"), "root": str(share)}

    def seen() -> Any:
        return observe([("bind", about)], Host())[f"bind {about['name']}"]

    assert seen() is None
    apply(run, homes(share))
    first = seen()
    assert (first["root"], first["nosuid"], first["nodev"], first["current"]) == ("/users/ada", True, True, True)
    mount("-o", "remount,bind,suid,ro", run / "w/ada")
    assert (seen()["nosuid"], seen()["read_only"]) == (False, True)
    apply(run, homes(share))
    assert seen() == first
    link_to_root(share)
    assert seen()["root"] == "/users/.a"
    mount("-t", "tmpfs", "other", share)  # the share is mounted anew
    assert not seen()["current"]


def suid_works(program: Path) -> bool:
    done = subprocess.run(
        ["setpriv", f"--reuid={BOB}", "--clear-groups", program, "-u"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() == "0"


def test_a_place_that_the_host_reaches_loses_its_setuid_programs_too(tmp_path: Path, run: Path) -> None:
    place = tmp_path / "data/set"
    place.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    mount("-t", "tmpfs", "-o", "mode=755", "data", place)
    subprocess.run(["cp", "/usr/bin/id", place / "id"], check=True)
    (place / "id").chmod(0o4755)
    assert suid_works(place / "id")
    bind = Bind("set", "/", str(place).lstrip("/"), cover=True)
    apply(run, [bind])
    assert not suid_works(place / "id")
    assert not suid_works(run / "w/set/id")
    assert apply(run, [bind]).changes == []
    for again in (
        lambda: apply(run, [bind]),
        lambda: apply_binds.cover([bind, Bind("no", "/", "nothing/there", cover=True)]),
    ):
        subprocess.run(["umount", place], check=True)
        assert suid_works(place / "id")
        again()
        assert not suid_works(place / "id")


def data(tmp_path: Path, name: str = "data/set") -> tuple[Path, Bind]:
    """A place on a file system of the host that accounts reach."""
    top = tmp_path / "host"
    top.mkdir()
    for folder in (top, *top.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    mount("-t", "tmpfs", "-o", "mode=755", "host", top)
    place = top / name
    place.mkdir(parents=True)
    place.chmod(0o1777)
    return place, Bind("set", "/", str(place).lstrip("/"), cover=True)


def as_ada(*argv: Any) -> Any:
    command = ["setpriv", f"--reuid={ADA}", f"--regid={ADA}", "--clear-groups", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_a_place_that_others_can_move_is_not_covered(tmp_path: Path, run: Path, mode: int) -> None:
    place, bind = data(tmp_path, "data/project/set")
    above = place.parents[1]
    os.chown(place.parent, ADA, ADA)
    above.chmod(mode)
    refused = apply(run, [bind]).refused
    assert f"{place.parent} can be moved by others than root" in refused[0]["what"]
    assert f"Give {above} to root" in refused[0]["remedy"]
    os.chown(place.parent, 0, 0)
    assert bool(apply(run, [bind]).refused) == (mode != 0o1777)  # who may write there cannot move what is root's
    above.chmod(0o755)
    assert apply(run, [bind]).refused == []
    place.parent.chmod(0o775)
    assert "can be moved" in apply(run, [bind]).refused[0]["what"]


def test_a_file_with_a_second_name_keeps_containers_out(tmp_path: Path, run: Path) -> None:
    place, bind = data(tmp_path)
    home = place.parent / "home"
    home.mkdir()
    os.chown(home, ADA, ADA)
    deep = place / "/".join(["d"] * 300)
    deep.mkdir(parents=True)
    (home / "x").write_text("x")
    os.link(home / "x", deep / "x")
    outcome = apply(run, [bind])
    assert outcome.mounted == []
    assert "d/x has 2 names" in outcome.refused[0]["what"]
    assert "-links +1" in outcome.refused[0]["remedy"]
    assert "rw" in options(place)  # it could not be changed meanwhile, and can be now
    meant = dataclasses.replace(bind, linked=True)  # as those of GlusterFS's brick
    assert parse_bind(dataclasses.asdict(meant)) == meant
    assert apply(run, [meant]).mounted == ["set"]
    apply(run, [])
    (tmp_path / "run/binds.d/covered").unlink()
    subprocess.run(["umount", place], check=True)
    (home / "x").unlink()
    with (place / "open").open("w"):
        assert apply(run, [bind]).refused == []  # a mount that is new has no writers
    assert apply(run, [bind]).mounted == ["set"]
    # From now on there is no way out.
    assert "cross-device" in as_ada("ln", deep / "x", home / "y").stderr
    os.link(deep / "x", deep / "y")
    subprocess.run(["umount", place], check=True)
    assert apply(run, [bind]).refused == []


def test_what_cannot_be_kept_as_it_is_meanwhile_is_named(tmp_path: Path, run: Path) -> None:
    place, bind = data(tmp_path)
    mounts.cover(open_place(bind))  # by an earlier release
    with (place / "open").open("w"):
        refused = apply(run, [bind]).refused
    assert f"files in {place} are open to be written" in refused[0]["what"]
    assert "fuser -vm" in refused[0]["remedy"]
    assert apply(run, [bind]).refused == []
    assert "rw" in options(place)


def test_a_place_that_was_without_setuid_programs_before_is_not_looked_through(tmp_path: Path, run: Path) -> None:
    place, bind = data(tmp_path)
    mount("-t", "tmpfs", "-o", "nosuid,nodev", "own", place)
    (place / "x").touch()
    os.link(place / "x", place / "y")
    assert apply(run, [bind]).refused == []
    # Where it is seen with them elsewhere, it is.
    (tmp_path / "elsewhere").mkdir()
    mount("--bind", place, tmp_path / "elsewhere")
    mount("-o", "remount,bind,suid,dev", tmp_path / "elsewhere")
    shutil.rmtree(f"{run}.d")
    assert "has 2 names" in apply(run, [bind]).refused[0]["what"]


def test_what_containers_have_written_stays_covered(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, bind = data(tmp_path)
    declared = {"directory": str(run), "declared": f"{run}.d"}
    apply(run, [bind])
    for places in ([Bind("set", "/", bind.path, read_only=True)], []):
        outcome = apply(run, places)
        assert (outcome.kept, outcome.refused) == ([str(place)], [])
        subprocess.run(["umount", place], check=True)
        assert "nosuid" not in options(place.parents[1])
        assert program.main(["cover"], **declared) == 0
        assert {"nosuid", "nodev"} <= options(place)
    assert program.main(["uncover", "/elsewhere"], **declared) == 1
    assert f"one of {place}" in capsys.readouterr().err
    assert program.main(["uncover", str(place)], **declared) == 0
    assert apply(run, []).kept == []
    # Another set declares it: it is not kept, but meant.
    apply(run, [bind])
    write("w", [bind], declared=declared["declared"])
    assert apply_binds.apply("other", [], directory=str(run), declared=f"{run}.d").kept == []


def test_a_disk_that_is_not_mounted_yet_is_waited_for(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, bind = data(tmp_path)
    table = tmp_path / "fstab"
    waits = fstab.awaited
    monkeypatch.setattr(fstab, "awaited", lambda places, network=True: waits(places, network, str(table)))
    table.write_text(f"# x\nx {place.parent} ext4 nofail 0 0\ny /elsewhere ext4 nofail\nz {place} ext4 noauto\n")
    assert f"nothing is mounted on {place.parent}, as /etc/fstab has it" in apply(run, [bind]).refused[0]["what"]
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "systemctl").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nmount -t tmpfs x "$3" && mkdir "$3/set"\n'
    )
    (bin_dir / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    write("w", [bind], declared=f"{run}.d")
    assert program.main(["cover"], directory=str(run), declared=f"{run}.d") == 0
    assert (tmp_path / "said").read_text() == f"start -- {place.parent}\n"
    assert {"nosuid", "nodev"} <= options(place)
    # Early in a boot there is no network to wait for.
    for kind in ("ext4 _netdev", "nfs4 nofail", "efs tls", "aznfs", "wekafs ro"):
        table.write_text(f"x {place.parent}/other {kind}\n")
        other = Bind("set", "/", f"{str(place.parent).lstrip('/')}/other", cover=True)
        assert (fstab.awaited([other], network=False), len(fstab.awaited([other]))) == (set(), 1)
    # Options may be left out, as may what follows them.
    table.write_text(f"x {place.parent}/other ext4\n")
    assert len(fstab.awaited([other], network=False)) == 1


def test_a_receipt_and_verify_see_what_became_of_a_cover(tmp_path: Path, run: Path) -> None:
    place, bind = data(tmp_path)
    apply(run, [bind])
    about = {"name": str(run / "w/set"), "cover": str(place)}

    def seen() -> tuple[Any, Any]:
        found = observe([("bind", about), ("cover", {"name": str(place)})], Host())
        return found[f"bind {about['name']}"]["covered"], found[f"cover {place}"]

    assert seen() == (True, {"covered": True})
    subprocess.run(["umount", place], check=True)
    assert seen() == (False, {"covered": False})
    apply(run, [bind])
    mount("-o", "remount,bind,suid,nodev", place)
    assert seen() == (False, {"covered": False})
    assert apply(run, [bind]).changes != []
    assert seen() == (True, {"covered": True})


def test_a_place_that_stands_for_a_share_is_a_mount_of_its_own(tmp_path: Path, run: Path) -> None:
    """Also where its file system has no setuid programs: the layout of the share and what is below ask for a mount."""
    place, _bind = data(tmp_path)
    mount("-o", "remount,nosuid,nodev", place.parents[1])
    bind = Bind("share", "/", str(place).lstrip("/"), cover=True, own=True)
    home = Bind("home", str(place), "users/ada", owner=ADA, mounted=True)
    (place / "users/ada").mkdir(parents=True)
    os.chown(place / "users/ada", ADA, ADA)

    def seen() -> Any:
        return observe([("cover", {"name": str(place), "place": True})], Host())[f"cover {place}"]

    assert (seen(), apply(run, [home]).mounted) == ({"covered": False}, [])
    assert apply(run, [bind, home]).mounted == ["share", "home"]
    assert seen() == {"covered": True}
    assert apply(run, [bind, home]).changes == []
    assert sum(line.split()[4] == str(place) for line in Path("/proc/self/mountinfo").read_text().splitlines()) == 1
    subprocess.run(["umount", place], check=True)
    assert seen() == {"covered": False}
    apply_binds.cover([bind, bind])  # as at a boot
    assert seen() == {"covered": True}
    assert sum(line.split()[4] == str(place) for line in Path("/proc/self/mountinfo").read_text().splitlines()) == 1


INSIDE = {
    "runs a program of it": "os.execv(place + '/in/cat', ['cat'])",
    "has a file of it on its way": "sent = park(os.open(place + '/in/id', os.O_RDONLY))",
    "stands in it": "os.chdir(place)",
    "stands below it": "os.chdir(place + '/in')",
    "has a file of it open": "kept = os.open(place + '/in/id', os.O_RDONLY)",
    "a thread of its own does": "threading.Thread(target=enter).start(); entered.wait()",
}
ENTER = """
import ctypes, os, socket, sys, threading
place, entered = sys.argv[1], threading.Event()
def enter():
    assert ctypes.CDLL(None).unshare(0x200) == 0  # CLONE_FS
    os.chdir(place)
    entered.set()
    sys.stdin.read()
def park(file):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    socket.send_fds(one, [b"x"], [file])
    os.close(file)
    return one, other
os.setgid({ids}); os.setuid({ids})
{how}
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", INSIDE)
def test_who_was_in_a_place_before_keeps_containers_out_of_it(how: str, tmp_path: Path, run: Path) -> None:
    place = tmp_path / "data/set"
    (place / "in").mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    mount("-t", "tmpfs", "-o", "mode=755", "data", place)
    (place / "in").mkdir()
    (place / "in/id").touch()
    shutil.copy("/bin/cat", place / "in/cat")
    (tmp_path / "data/set too").mkdir()
    bind = Bind("set", "/", str(place).lstrip("/"), cover=True)
    command = [sys.executable, "-c", ENTER.format(ids=ADA, how=INSIDE[how]), str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline()
        for _again in range(2):
            outcome = apply(run, [bind])
            assert outcome.mounted == []
            assert f"{process.pid} of uid {ADA}" in outcome.refused[0]["what"]
            assert f"kill {process.pid}" in outcome.refused[0]["remedy"]
        process.stdin.close()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=place, user=ADA, group=ADA) as late:
        assert apply(run, [bind]).refused == []
        assert late.stdin
        late.stdin.close()


def test_who_was_in_a_place_before_it_was_closed_keeps_containers_out_of_it(tmp_path: Path, run: Path) -> None:
    """An earlier release let accounts enter the places on a node."""
    place = tmp_path / "local/ada"
    place.mkdir(parents=True)
    os.chown(place, ADA, ADA)
    bind = Bind("local-ada", str(tmp_path / "local"), "ada", owner=ADA, propagation="private")
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=place, user=ADA, group=ADA) as early:
        (tmp_path / "local").chmod(0o700)
        refused = apply(run, [bind]).refused
        assert f"{early.pid} of uid {ADA}" in refused[0]["what"]
        assert early.stdin
        early.stdin.close()
    assert apply(run, [bind]).refused == []


def test_what_must_never_be_bound_is_known_by_whatever_name(tmp_path: Path, run: Path) -> None:
    secret, other = tmp_path / "secret", tmp_path / "other"
    (secret / "in").mkdir(parents=True)
    other.mkdir()
    mount("--bind", secret, other)
    for path in (other, other / "in"):
        outcome = apply(run, [Bind("x", "/", str(path).lstrip("/"), never=(str(secret), "/nowhere"))])
        assert f"other is {secret}" in outcome.refused[0]["what"]


def test_a_file_can_be_bound_and_a_socket_cannot(tmp_path: Path, run: Path) -> None:
    (tmp_path / "file").write_text("data")
    os.mknod(tmp_path / "device", 0o600 | 0o020000, os.makedev(1, 3))
    places = [Bind(name, str(tmp_path), name, read_only=True) for name in ("file", "device")]
    outcome = apply(run, places)
    assert outcome.mounted == ["file"]
    assert (run / "w/file").read_text() == "data"
    assert apply(run, places).changes == []


def test_the_program_mounts_what_is_declared_and_lets_go(
    share: Path, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    declared = tmp_path / "binds.d"
    link_to_root(share)
    assert write("w", homes(share), declared=str(declared))
    assert not write("w", homes(share), declared=str(declared))
    assert (declared / "w.json").stat().st_mode & 0o777 == 0o600
    assert read(str(declared)) == {"w": homes(share)}
    paths = {"directory": str(run), "declared": str(declared)}
    assert program.main(["mount"], **paths) == 0
    assert f"w/ada: {share}/users/ada is a symbolic link" in capfd.readouterr().err
    assert (run / "w/bob/mark").read_text() == "bob"
    assert apply_binds.release(str(run), ["/"]) == []
    assert apply_binds.release(str(run), [str(share)], check=True) == [str(run / "w/bob")]
    assert program.main(["release"], **paths) == 0
    assert list((run / "w").iterdir()) == []
    subprocess.run(["umount", share], check=True)
    (declared / "w.json").write_text(json.dumps({"version": 1, "binds": [{"name": "../x"}]}))
    assert program.main(["mount"], **paths) == 1
    assert write("w", [], declared=str(declared))
    assert list(declared.iterdir()) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a slash": ({"name": "a/b"}, "'a/b'"),
    "a path upwards": ({"path": "../etc"}, "'../etc'"),
    "a root that is relative": ({"root": "mnt"}, "'mnt'"),
    "another propagation": ({"propagation": "unbindable"}, "'unbindable'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_meant_is_an_error(wrong: str) -> None:
    changed, what = WRONG[wrong]
    with pytest.raises(GpusteadError, match=what):
        parse_bind({"name": "a", "root": "/mnt", "path": "x", **changed})


def test_the_role_writes_what_its_receipt_vouches_for(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(ROLE / "templates")
    receipt = yaml.safe_load((ROLE / "meta/receipt.yml").read_text())["outputs"]["file"]
    settings = {"vouched": receipt, "__binds_begun": {"previous": []}}
    found = render(tmp_path, "binds", ["__binds_entries", "vouched"], {"gpu_nodes": ["a"]}, settings)
    entries = {parse({"state": "file", **entry}) for entry in found["__binds_entries"]}
    vouched = [path for one in found["vouched"] for path in ([one] if isinstance(one, str) else one)]
    assert sorted(entry.path for entry in entries) == sorted(vouched)
    library = Path(program.__file__).parents[1]
    written = {entry.path: entry for entry in entries}
    installed = written["/usr/local/lib/gpustead/gpustead-binds"]
    assert installed.mode == 0o755
    assert (installed.content or b"").startswith(b"#!/usr/bin/python3 -IB\n# Ansible managed\n")
    (copied,) = [entry for path, entry in written.items() if path.endswith("module_utils/binds/program.py")]
    assert copied.mode == 0o644 and copied.content == (library / "binds/program.py").read_bytes()
    assert written["/etc/gpustead/binds.d"].mode == 0o700


def test_the_program_needs_nothing_but_its_own_files(tmp_path: Path) -> None:
    """What the role copies is all that it imports."""
    source = Path(program.__file__).parents[1]
    target = tmp_path / "ansible_collections/gpustead/cluster/plugins/module_utils"
    role = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    for name in role["__binds_library_files"]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())
    text = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from ansible_collections.gpustead.cluster.plugins.module_utils.binds import program"
    )
    subprocess.run([sys.executable, "-I", "-S", "-B", "-c", text, str(tmp_path)], check=True)


def test_a_set_that_is_damaged_keeps_no_other_from_its_places(share: Path, run: Path) -> None:
    apply(run, homes(share))
    declared = Path(f"{run}.d")
    write("w", homes(share), declared=str(declared))
    (declared / "w.json").write_text("{} damaged")
    (declared / "other.json").write_text("{} damaged")
    assert apply(run, homes(share)).refused == []
    assert write("w", homes(share), declared=str(declared))
    with pytest.raises(GpusteadError, match=r"other\.json is damaged"):
        read(str(declared))


def test_places_of_a_share_that_was_let_go_of_are_found_when_it_goes_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """An automount that waits is another file system than the one that these show."""
    seen = {
        "/mnt/nas": Mounted("/mnt/nas", "0:9", "/", ("rw",), (), "autofs", "systemd-1"),
        "/run/b": Mounted("/run/b", "0:8", "/", ("rw",), (), "tmpfs", "x"),
        "/run/b/w/ada": Mounted("/run/b/w/ada", "0:10", "/users/ada", ("rw",), (), "nfs4", "nas:/x"),
    }

    def ask(_work: Any, _who: Any, *, timeout: float, place: str) -> None:
        seen[place] = Mounted(place, "0:10", "/", ("rw",), (), "nfs4", "nas:/x")

    monkeypatch.setattr(mounts, "mounted", lambda: dict(seen))
    monkeypatch.setattr(as_account, "run", ask)
    monkeypatch.setattr(apply_binds, "_locked", lambda _directory, _check: contextlib.nullcontext())
    assert apply_binds.release("/run/b", ["/mnt/nas/"], check=True) == ["/run/b/w/ada"]
