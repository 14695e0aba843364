"""A mount whose server takes what it is asked and never answers: FUSE, which waits as a hard mount of NFS does."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_NOSUID_NODEV = 2 | 4
_INIT = 26  # of FUSE


@contextlib.contextmanager
def silent(place: Path, uid: int) -> Iterator[None]:
    """One of `uid` at a place; no signal ends who waits for it. Needs root, and a namespace of the test's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device, (mounted, tell) = os.open("/dev/fuse", os.O_RDWR), os.pipe()
    except OSError as error:
        pytest.skip(f"no FUSE: {error.strerror}")
    daemon = os.fork()
    if daemon == 0:
        options = f"fd={device},rootmode=40000,user_id={uid},group_id={uid},allow_other"
        if libc.mount(b"own", os.fsencode(place), b"fuse.own", _NOSUID_NODEV, options.encode()):
            os._exit(1)
        os.write(tell, b"x")
        while True:
            _length, code, unique = struct.unpack_from("<IIQ", os.read(device, 1 << 17))
            if code == _INIT:
                about = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0)
                os.write(device, struct.pack("<IiQ", 16 + len(about), 0, unique) + about)
    os.close(device)
    os.close(tell)
    try:
        if not os.read(mounted, 1):
            pytest.skip("no FUSE")
        yield
    finally:
        os.close(mounted)
        os.kill(daemon, signal.SIGKILL)
        os.waitpid(daemon, 0)
        subprocess.run(["umount", "-l", place], check=False)
