# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What lies in /run/user: files, sockets that lie, hang or chatter, and a rootless daemon. All sockets are real."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.other_dockers import (
    Others,
    Rootless,
    observe,
    rootless_version,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other accounts")
ADA, BOB = 64001, 64002
INFO = {"ServerVersion": "28.2.2", "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}


def http(info: object, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(info)}".encode()


@pytest.fixture
def root() -> Iterator[Path]:
    """A root with two accounts that are logged in; below a path that they can walk."""
    with tempfile.TemporaryDirectory(prefix="others-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "etc").mkdir()
        (path / "etc/passwd").write_text(f"ada:x:{ADA}:{ADA}::/home/ada:/bin/sh\n")
        for uid in (ADA, BOB):
            directory = path / f"run/user/{uid}"
            directory.mkdir(parents=True)
            directory.chmod(0o700)
            os.chown(directory, uid, uid)
        yield path


@contextlib.contextmanager
def daemon(root: Path, uid: int, answer: bytes, endless: bool = False) -> Iterator[list[tuple[int, int]]]:
    """Something that answers at an account's docker.sock; gives the ids of who connected."""
    path, callers = root / f"run/user/{uid}/docker.sock", []  # type: tuple[Path, list[tuple[int, int]]]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chown(path, uid, uid)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                link, _ = server.accept()
                with link:
                    _pid, *ids = struct.unpack("iII", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                    callers.append((ids[0], ids[1]))
                    link.recv(1 << 16)
                    link.sendall(answer)
                    while endless:
                        link.sendall(answer or b"x" * 65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield callers


def test_a_rootless_daemon_is_told_with_whose_it_is_and_asked_as_its_account(root: Path) -> None:
    with daemon(root, ADA, http(INFO)) as callers:
        found = observe(root)
    assert found == Others(False, (Rootless(ADA, "ada", f"/run/user/{ADA}/docker.sock", "28.2.2"),))
    assert str(found.rootless[0]) == f"'ada' runs a rootless Docker 28.2.2 at /run/user/{ADA}/docker.sock"
    assert callers == [(ADA, ADA)]


FAKES = ["file", "directory", "FIFO", "link to root's", "broken link", "nothing"]


@pytest.mark.parametrize("kind", FAKES)
def test_what_is_no_daemon_is_nobodys(root: Path, kind: str) -> None:
    path = root / f"run/user/{ADA}/docker.sock"
    real = root / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(real))  # of root alone, as the real one is
        real.chmod(0o600)
        server.listen()
        if kind == "file":
            path.write_text("")
        elif kind == "directory":
            path.mkdir()
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind == "link to root's":
            path.symlink_to(real)
        elif kind == "broken link":
            path.symlink_to("/nonexistent")
        began = time.monotonic()
        assert observe(root) == Others(False, ())
        assert time.monotonic() - began < 3
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):  # nobody connected to root's in the account's stead
            server.accept()


ANSWERS = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "another status": http(INFO, "404 Not Found"),
    "not JSON": b"HTTP/1.0 200 OK\r\n\r\n{",
    "nested without end": b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 200000,
    "a list": http([]),
    "root's own": http({**INFO, "SecurityOptions": ["name=seccomp"]}),
    "options of another type": http({**INFO, "SecurityOptions": "name=rootless"}),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_socket_that_answers_something_else_does_not_count(root: Path, answer: bytes) -> None:
    with daemon(root, ADA, answer):
        assert observe(root).rootless == ()


def test_sockets_that_hang_or_chatter_hide_no_other(root: Path) -> None:
    """A socket that accepts and says nothing, and one that never ends, beside one that is a daemon."""
    began = time.monotonic()
    carol = root / "run/user/64003"
    carol.mkdir(mode=0o700)
    os.chown(carol, 64003, 64003)
    with (
        socket.socket(socket.AF_UNIX) as silent,
        daemon(root, BOB, b"", endless=True),
        daemon(root, 64003, http(INFO)),
    ):
        path = root / f"run/user/{ADA}/docker.sock"
        silent.bind(str(path))
        path.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        silent.listen()
        found = observe(root)
    assert [(each.uid, each.account) for each in found.rootless] == [(64003, "uid 64003")]
    assert time.monotonic() - began < 10


def test_a_version_with_escape_sequences_is_not_passed_on() -> None:
    answer = http({**INFO, "ServerVersion": "28\x1b[2J\u202e"}).decode()
    assert rootless_version(answer) == "of an unknown version"


def test_a_directory_that_is_not_the_accounts_is_left_alone(root: Path) -> None:
    """As one of root's with a number as its name: logind makes none such."""
    (root / "run/user/64009").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "run/user/64009/docker.sock"))
        server.listen()
        assert observe(root).rootless == ()


def test_what_an_account_has_mounted_on_its_directory_hides_no_other(root: Path) -> None:
    """A file system of an account's own (FUSE) answers not even root."""
    theirs = root / f"run/user/{ADA}"
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("no FUSE here")
    options = f"fd={fuse},rootmode=40000,user_id={ADA},group_id={ADA}"
    try:
        if ctypes.CDLL(None).mount(b"theirs", os.fsencode(theirs), b"fuse.theirs", 2 | 4, options.encode()):
            pytest.skip("no mounts here")
        with daemon(root, BOB, http(INFO)):
            assert [one.uid for one in observe(root).rootless] == [BOB]
    finally:
        ctypes.CDLL(None).umount2(os.fsencode(theirs), 2)
        os.close(fuse)


def test_the_one_from_snap_is_seen(root: Path) -> None:
    (root / "snap/bin").mkdir(parents=True)
    (root / "snap/bin/docker").symlink_to("/usr/bin/true")
    assert observe(root).snap
