# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock of ufw: an account that holds it keeps nobody waiting."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_lock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another account")
HOLD = """
import fcntl, os, sys
os.setgid(64001); os.setuid(64001)
file = open(sys.argv[1])
fcntl.lockf(file, fcntl.LOCK_SH)
print(flush=True)
sys.stdin.read()
"""


def test_who_holds_it_keeps_nobody_waiting_and_cannot_again(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    lock = tmp_path / "ufw.lock"
    lock.touch(0o644)
    argv = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline() == b"\n"
        with lock.open("w") as ours, pytest.raises(BlockingIOError):
            fcntl.lockf(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ufw_lock.close_to_accounts(str(lock))
        with lock.open("w") as ours:  # as ufw opens it
            fcntl.lockf(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.stdin.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ufw.lock"]
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("there", [False, True])
def test_one_that_is_roots_alone_stays(there: bool, tmp_path: Path) -> None:
    lock = tmp_path / "ufw.lock"
    if there:
        lock.touch(0o600)
    before = lock.stat().st_ino if there else None
    ufw_lock.close_to_accounts(str(lock))
    assert lock.stat().st_mode & 0o777 == 0o600
    assert before in (None, lock.stat().st_ino)


def test_where_it_cannot_be_made_the_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(GpusteadError, match=r"no/ufw\.lock"):
        ufw_lock.close_to_accounts(str(tmp_path / "no/ufw.lock"))
