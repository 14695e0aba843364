# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real processes that have a device open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import User, users

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts processes of other accounts")
ADA = 64001
# In the place of a GPU's.
DEVICE = "/dev/(full|not-there)"
HOLD = """
import os, sys
open("/proc/self/comm", "wb").write({name})
os.setgid({uid}); os.setuid({uid})
kept = [os.open("/dev/full", os.O_RDONLY) for _ in range({files})]
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def process(uid: int = ADA, name: bytes = b"train", files: int = 1) -> Iterator[int]:
    command = [sys.executable, "-c", HOLD.format(uid=uid, name=name, files=files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin and started.stdout
        started.stdout.readline()
        yield started.pid
        started.stdin.close()


def test_each_process_is_named_once_however_often_it_has_a_device_open() -> None:
    with process(files=500) as one, process(name=b"\x1b[2J") as other:
        found = users(DEVICE)
        assert found == [User(one, f"uid {ADA}", "train"), User(other, f"uid {ADA}", "\\x1b[2J")]
        assert str(found[0]) == f"{one} uid {ADA} train"
    assert users(DEVICE) == []


def test_the_drivers_daemon_is_none_and_who_takes_its_name_is_one() -> None:
    with process(0, b"nvidia-persistenced"), process(ADA, b"nvidia-persistenced") as pid:
        assert users(DEVICE) == [User(pid, f"uid {ADA}", "nvidia-persiste")]


def test_what_cannot_be_looked_through_is_an_error() -> None:
    with pytest.raises(GpusteadError, match="too many files open to look through"):
        users(DEVICE, seconds=-1)
