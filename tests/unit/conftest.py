"""Settings of the property-based tests, and mounts of a test's own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("gpustead", deadline=None)
settings.load_profile("gpustead")

_NEWNS = 0x20000


@pytest.fixture
def namespace() -> Iterator[None]:
    """The mounts of a test are seen by no other process, and go with it; / is shared, as on a host."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, ours = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if libc.unshare(_NEWNS) != 0:
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    for how in ("--make-rprivate", "--make-rshared"):
        subprocess.run(["mount", how, "/"], check=True)
    yield
    assert libc.setns(ours, _NEWNS) == 0
    os.close(ours)
    os.chdir(here)
