"""The keys of accounts: what becomes of the text, and the file, which its account may have made anything."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import keys_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.accounts_plan import plan as plan_accounts
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_authorized_keys import (
    apply_as_account,
    as_the_account,
    keep,
    refuse_insecure_way,
    retire_as_account,
    take_back,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import (
    DesiredKeys,
    check,
    compare,
    parse,
    plan,
    supplementary,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as an account")
UID, OTHER = 61001, 61002
A, B, C = (
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}@desk" for letter in "BCD"
)  # each with another key
KEYS = DesiredKeys("ada", UID, UID, "/home/ada")


def without_comment(line: str) -> str:
    return line.rpartition(" ")[0]


# before, keys, former, exclusive: after
PLANS: dict[str, tuple[str, list[str], list[str], bool, str]] = {
    "nothing": ("", [], [], False, ""),
    "the first": ("", [A], [], False, f"{A}\n"),
    "there already": (f"{A}\n", [A], [], False, f"{A}\n"),
    "there already, without an end of line": (A, [A], [], False, A),
    "beside another's, without an end of line": (B, [A], [], False, f"{B}\n{A}\n"),
    "in its place": (f"# mine\n{A}\n\n{B}\n", [A], [], False, f"# mine\n{A}\n\n{B}\n"),
    "with another comment": (f"{without_comment(A)} old\n{B}\n", [A], [], False, f"{A}\n{B}\n"),
    "with options": (f"{A}\n", [f'from="10.0.0.0/8" {A}'], [], False, f'from="10.0.0.0/8" {A}\n'),
    "twice, once without options": (
        f'{A}\nfrom="10.0.0.0/8" {A}\n',
        [f'from="10.0.0.0/8" {A}'],
        [],
        False,
        f'from="10.0.0.0/8" {A}\n',
    ),
    "taken back": (f"{A}\n{B}\n", [], [A], False, f"{B}\n"),
    "taken back with options": (f'no-pty,command="echo \\"a b\\"" {A}\n{B}\n', [], [A], False, f"{B}\n"),
    "taken back, and declared": (f"{A}\n", [A], [A], False, f"{A}\n"),
    "others' options stay": (f'command="rsync --server" {B}\n', [A], [], False, f'command="rsync --server" {B}\n{A}\n'),
    "alone": (f"# why\n{B}\n{A}\nnonsense\n", [A], [], True, f"# why\n{A}\n"),
    "none at all": (f"# why\n{B}\n", [], [], True, "# why\n"),
    "a key in a comment": (f"#{B}\n", [A], [], True, f"#{B}\n{A}\n"),
    "a key in the options of another": (f'command="{A}" {B}\n', [], [A], False, f'command="{A}" {B}\n'),
    "Windows": (f"{A}\r\n{B}\r\n", [A], [], False, f"{A}\r\n{B}\r\n"),
    "other ends of line are none": (f"{B}\x0b{C}\n", [A], [], False, f"{B}\x0b{C}\n{A}\n"),
}


@pytest.mark.parametrize("case", PLANS)
def test_plan(case: str) -> None:
    before, keys, former, exclusive, after = PLANS[case]
    desired = replace(KEYS, keys=tuple(keys), former=tuple(former), exclusive=exclusive)
    assert plan(before, desired) == after
    assert plan(after, desired) == after


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# " + A,
        f"{A}\n{B}",
        f"{A}\r{B}",
        "ssh-ed25519 AAAA short",
        "ssh-rsa " + A.split()[1],
        "hello",
        f"{A}\x1b[2J",
    ],
)
def test_what_is_no_line_with_a_key_is_refused(line: str) -> None:
    with pytest.raises(GpusteadError, match="one line with a whole public SSH key") as caught:
        check("ada", line)
    assert str(caught.value).isprintable()


def test_a_declared_line_keeps_its_options() -> None:
    line = f'restrict,command="echo \\"a b\\"" {A}'
    assert check("ada", f" {line}\n") == line
    assert parse(line) == parse(A) != parse(B)


def test_what_goes_and_comes_is_said_by_line() -> None:
    assert compare(f"{A}\n{A}\n{B}\n", f"{A}\n{C}\n") == ((A, B), (C,))


@pytest.fixture
def home() -> Iterator[Path]:
    """Below a directory that others may enter."""
    top = Path(tempfile.mkdtemp(prefix="gpustead-keys-", dir="/tmp"))
    top.chmod(0o755)
    (top / "ada").mkdir(mode=0o700)
    os.chown(top / "ada", UID, UID)
    yield top / "ada"
    shutil.rmtree(top)


def write(path: Path, text: str, ids: tuple[int, int] = (UID, UID), mode: int = 0o600) -> Path:
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700)
        os.chown(path.parent, *ids)
    path.write_text(text)
    os.chown(path, *ids)
    path.chmod(mode)
    return path


def seen(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_uid, status.st_gid, f"{stat.S_IMODE(status.st_mode):04o}"


def desired_keys(home: Path, **others: Any) -> DesiredKeys:
    values: dict[str, Any] = {"name": "ada", "uid": UID, "gid": UID, "home": str(home), "keys": (A,), **others}
    return DesiredKeys(**values)


@ROOT_ONLY
def test_a_file_is_made_as_its_account_and_once(home: Path) -> None:
    desired = desired_keys(home)
    assert apply_as_account(desired, check_only=True).added == (A,)
    assert not (home / ".ssh").exists()
    outcome = apply_as_account(desired, check_only=False)
    assert outcome.changed
    assert (home / ".ssh/authorized_keys").read_text() == f"{A}\n"
    assert seen(home / ".ssh") == (UID, UID, "0700")
    assert seen(home / ".ssh/authorized_keys") == (UID, UID, "0600")
    assert not apply_as_account(desired, check_only=False).changed
    assert os.listdir(home / ".ssh") == ["authorized_keys"]


@ROOT_ONLY
def test_permissions_are_put_right_and_said(home: Path) -> None:
    file = write(home / ".ssh/authorized_keys", f"{A}\n", mode=0o644)
    (home / ".ssh").chmod(0o755)
    outcome = apply_as_account(desired_keys(home), check_only=True)
    assert len(outcome.notes) == 2 and seen(file)[2] == "0644"
    apply_as_account(desired_keys(home), check_only=False)
    assert (seen(file)[2], seen(home / ".ssh")[2]) == ("0600", "0700")
    assert not apply_as_account(desired_keys(home), check_only=True).changed


@ROOT_ONLY
def test_what_an_account_can_do_to_its_file_is_put_right(home: Path) -> None:
    """Another group of its own, by the directory as well."""
    file = write(home / ".ssh/authorized_keys", f"{A}\n", (UID, OTHER))
    os.chown(home / ".ssh", UID, OTHER)
    (home / ".ssh").chmod(0o2700)
    outcome = apply_as_account(desired_keys(home), check_only=False)
    assert f"{file}: group {UID}" in outcome.notes
    assert (seen(file), seen(home / ".ssh")[2]) == ((UID, UID, "0600"), "0700")
    assert not apply_as_account(desired_keys(home), check_only=False).changed


@ROOT_ONLY
def test_the_second_file_that_sshd_reads_has_no_other_keys_either(home: Path) -> None:
    second = write(home / ".ssh/authorized_keys2", f"# mine\n{A}\n{B}\n")
    assert apply_as_account(desired_keys(home), check_only=False).added == (A,)
    assert second.read_text() == f"# mine\n{A}\n{B}\n"
    alone = desired_keys(home, exclusive=True)
    assert apply_as_account(alone, check_only=True).removed == (A, B)
    assert apply_as_account(alone, check_only=False).removed == (A, B)
    assert (second.read_text(), (home / ".ssh/authorized_keys").read_text()) == ("# mine\n", f"{A}\n")
    assert not apply_as_account(alone, check_only=False).changed
    second.unlink()
    second.symlink_to("authorized_keys")
    with pytest.raises(GpusteadError, match=r"authorized_keys2 is a symbolic link"):
        apply_as_account(alone, check_only=False)
    assert not apply_as_account(desired_keys(home), check_only=False).changed


@ROOT_ONLY
def test_keys_on_trial_are_those_of_both_files(home: Path) -> None:
    write(home / ".ssh/authorized_keys", B)
    second = write(home / ".ssh/authorized_keys2", f"{C}\n")
    alone = desired_keys(home, exclusive=True)
    as_the_account(keep, alone)
    apply_as_account(alone, check_only=False)
    assert second.read_text() == ""
    as_the_account(take_back, alone)
    assert (home / ".ssh/authorized_keys").read_text() == f"{B}\n{C}\n"
    second.unlink()
    as_the_account(keep, alone)
    as_the_account(take_back, alone)
    assert (home / ".ssh/authorized_keys").read_text() == f"{B}\n{C}\n"  # as it was, to the byte


def _link_file(home: Path, victim: Path) -> None:
    write(home / ".ssh/authorized_keys", "")
    (home / ".ssh/authorized_keys").unlink()
    (home / ".ssh/authorized_keys").symlink_to(victim / "file")


def _link_folder(home: Path, victim: Path) -> None:
    (home / ".ssh").symlink_to(victim)


def _hard_link(home: Path, victim: Path) -> None:
    (home / ".ssh").mkdir()
    os.chown(home / ".ssh", UID, UID)
    os.link(victim / "file", home / ".ssh/authorized_keys")


def _hard_link_of_its_own(home: Path, victim: Path) -> None:
    os.link(write(home / ".ssh/authorized_keys", ""), home / "second")


def _fifo_folder(home: Path, victim: Path) -> None:
    os.mkfifo(home / ".ssh")
    os.chown(home / ".ssh", UID, UID)


def _fifo(home: Path, victim: Path) -> None:
    write(home / ".ssh/authorized_keys", "").unlink()
    os.mkfifo(home / ".ssh/authorized_keys")
    os.chown(home / ".ssh/authorized_keys", UID, UID)


def _device(home: Path, victim: Path) -> None:
    write(home / ".ssh/authorized_keys", "").unlink()
    os.mknod(home / ".ssh/authorized_keys", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.chown(home / ".ssh/authorized_keys", UID, UID)


def _endless(home: Path, victim: Path) -> None:
    with write(home / ".ssh/authorized_keys", "").open("wb") as file:
        file.truncate(1 << 40)


def _directory(home: Path, victim: Path) -> None:
    write(home / ".ssh/authorized_keys", "").unlink()
    (home / ".ssh/authorized_keys").mkdir()


def _others_folder(home: Path, victim: Path) -> None:
    (home / ".ssh").mkdir(mode=0o777)
    os.chown(home / ".ssh", OTHER, OTHER)


def _home_gone(home: Path, victim: Path) -> None:
    home.rmdir()


def _home_a_link(home: Path, victim: Path) -> None:
    home.rmdir()
    home.symlink_to(victim)


def _home_a_file(home: Path, victim: Path) -> None:
    home.rmdir()
    write(home, "")


def _home_of_another(home: Path, victim: Path) -> None:
    os.chown(home, OTHER, OTHER)
    home.chmod(0o777)


def _home_for_all(home: Path, victim: Path) -> None:
    home.chmod(0o777)


def _above_of_another(home: Path, victim: Path) -> None:
    os.chown(home.parent, OTHER, OTHER)


def _closed(home: Path, victim: Path) -> None:
    home.chmod(0)


ATTACKS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "the file is a link": (_link_file, "authorized_keys is a symbolic link or no file"),
    "its directory is a link": (_link_folder, ".ssh is a symbolic link or no directory"),
    "another's file": (_hard_link, "Permission denied for uid 61001"),
    "two names": (_hard_link_of_its_own, "has 2 names"),
    "its directory is a FIFO": (_fifo_folder, ".ssh is a symbolic link or no directory"),
    "a FIFO": (_fifo, "is no regular file"),
    "a device": (_device, "is no regular file"),
    "without end": (_endless, "is longer than 1048576 bytes"),
    "a directory": (_directory, "is no regular file"),
    "another's directory": (_others_folder, "belongs to uid 61002"),
    "no home": (_home_gone, "is not there"),
    "the home is a file": (_home_a_file, "is no directory"),
    "the home is another's": (_home_of_another, "belongs to uid 61002"),
    "the home is for all": (_home_for_all, "can be changed by others"),
    "another's above the home": (_above_of_another, "can be changed by others than root"),
    "a closed home": (_closed, "Permission denied"),
}


@ROOT_ONLY
@pytest.mark.parametrize("case", ATTACKS)
def test_nothing_of_anybody_elses_is_touched(home: Path, case: str) -> None:
    victim = home.parent / "victim"
    victim.mkdir()
    secret = write(victim / "file", "root:secret:1::::::\n", (0, 0))
    attack, words = ATTACKS[case]
    attack(home, victim)
    began = time.monotonic()
    for only in (True, False):
        with pytest.raises(GpusteadError) as caught:
            apply_as_account(desired_keys(home, exclusive=True), check_only=only)
        assert words in str(caught.value)
        assert str(home.parent) in str(caught.value)
    assert time.monotonic() - began < 15
    assert (secret.read_text(), seen(secret)) == ("root:secret:1::::::\n", (0, 0, "0600"))
    assert (seen(victim), os.listdir(victim)) == ((0, 0, "0755"), ["file"])


@ROOT_ONLY
def test_a_home_that_root_has_elsewhere_is_followed(home: Path) -> None:
    elsewhere = home.parent / "elsewhere"
    home.rename(elsewhere)
    home.symlink_to("elsewhere")
    assert apply_as_account(desired_keys(home), check_only=False).changed
    assert (elsewhere / ".ssh/authorized_keys").read_text() == f"{A}\n"


@ROOT_ONLY
def test_bytes_of_others_stay_as_they_are(home: Path) -> None:
    file = write(home / ".ssh/authorized_keys", "")
    file.write_bytes(b"# caf\xe9 \x00\n")
    apply_as_account(desired_keys(home), check_only=False)
    assert file.read_bytes() == b"# caf\xe9 \x00\n" + f"{A}\n".encode()


@ROOT_ONLY
def test_a_full_disk_leaves_what_was_there(home: Path) -> None:
    small = home.parent / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        (small / "ada").mkdir()
        os.chown(small / "ada", UID, UID)
        file = write(small / "ada/.ssh/authorized_keys", f"{B}\n")
        with (small / "full").open("wb") as full, pytest.raises(OSError, match="No space"):
            while True:
                full.write(bytes(4096))
                full.flush()
        with pytest.raises(GpusteadError, match=r"No space left on device.*make room"):
            apply_as_account(desired_keys(small / "ada", keys=(B, f"{A} " + "x" * 4096)), check_only=False)
        assert file.read_text() == f"{B}\n"
        assert os.listdir(file.parent) == ["authorized_keys"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@ROOT_ONLY
def test_keys_of_an_account_that_goes_are_renamed_and_none_is_lost(home: Path) -> None:
    write(home / ".ssh/authorized_keys", "one\n")
    write(home / ".ssh/authorized_keys2", "two\n")
    desired = desired_keys(home)
    assert retire_as_account(desired) == [
        f"{home}/.ssh/authorized_keys.retired",
        f"{home}/.ssh/authorized_keys2.retired",
    ]
    assert retire_as_account(desired) == []
    write(home / ".ssh/authorized_keys", "again\n")
    retire_as_account(desired)
    texts = {path.name: path.read_text() for path in (home / ".ssh").iterdir()}
    assert texts == {
        "authorized_keys.retired": "one\n",
        "authorized_keys2.retired": "two\n",
        "authorized_keys.retired.1": "again\n",
    }
    (home / ".ssh").rename(home / "x")
    (home / ".ssh").symlink_to("/root/.ssh")
    with pytest.raises(GpusteadError, match=r"\.ssh is a symbolic link"):
        retire_as_account(desired)


def receipt_subject(home: Path) -> dict[str, Any]:
    known = {"name": "ada", "uid": UID, "gid": UID, "home": str(home)}
    service = {"name": "gpustead", "uid": 941, "gid": 941}
    (subject,) = plan_accounts([{"name": "ada", "ssh_keys": [A]}], "ada", service, known=[known]).receipt["lines"]
    return subject


@ROOT_ONLY
@pytest.mark.parametrize(
    "case", ["the file is a link", "its directory is a link", "another's file", "a FIFO", "two names"]
)
def test_no_receipt_vouches_for_what_a_link_leads_to(home: Path, case: str) -> None:
    victim = home.parent / "victim"
    victim.mkdir()
    for name in ("file", "authorized_keys"):
        write(victim / name, f"{A}\n", (0, 0), 0o644)
    ATTACKS[case][0](home, victim)
    (value,) = observe([("lines", receipt_subject(home))], Host()).values()
    assert set(value) == {"error"}, value
    assert A not in str(value)


@ROOT_ONLY
def test_a_receipt_vouches_for_the_file_itself(home: Path) -> None:
    apply_as_account(desired_keys(home), check_only=False)
    (value,) = observe([("lines", receipt_subject(home))], Host()).values()
    assert value == {"mode": "0600", "owner": f"{UID}:{UID}", "present": {A: True}}


def test_groups_of_an_account() -> None:
    assert supplementary("ada", "ada:x:1500:\nml:x:1900:bob,ada\nx:y\ndocker:x:998:adam\n") == (1900,)


@ROOT_ONLY
def test_no_home_is_made_where_others_can_change_the_way(home: Path) -> None:
    refuse_insecure_way(str(home.parent / "new"), "zoe")
    refuse_insecure_way(str(home.parent / "not" / "there" / "new"), "zoe")
    (home / "link").symlink_to("/opt")
    for inner in ("zoe", "not/there/zoe", "link/zoe"):
        with pytest.raises(GpusteadError, match=r"can be changed by others than root"):
            refuse_insecure_way(str(home / inner), "zoe")


def test_an_account_that_holds_up_what_puts_its_keys_back_does_not_hold_up_the_run(home: Path) -> None:
    write(home / ".ssh/authorized_keys", "")
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        if len(asked) > 1000:
            raise AssertionError("it waits for ever")
        return 0, "", ""

    keys_trial.prove(run, DesiredKeys("ada", UID, UID, str(home)))
    assert asked[-1] == ["systemctl", "kill", "--signal=SIGKILL", f"gpustead-keys-takeback-{UID}.service"]
