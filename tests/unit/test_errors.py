# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the system says becomes an error with what is to be done: a full disk is no want of root."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import agent as receipt_agent

CASES = {
    errno.EACCES: "It needs root: set become.",
    errno.ENOSPC: "see df and df -i",
    errno.EDQUOT: "The quota there is used up",
    errno.EROFS: "It is mounted read-only",
    errno.ENOENT: "See what lies there.",
}


@pytest.mark.parametrize(("code", "remedy"), CASES.items(), ids=[errno.errorcode[code] for code in CASES])
def test_the_remedy_is_that_of_what_happened(code: int, remedy: str) -> None:
    error = of_system(OSError(code, os.strerror(code), "/state/a\x1b"), "the receipts in /state")
    assert isinstance(error, GpusteadError)
    assert str(error).startswith(f"the receipts in /state: {os.strerror(code)} (/state/a\\x1b): expected it to work. ")
    assert remedy in str(error)


LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB without a free block."""
    made = LIBC.mount(b"tmpfs", os.fsencode(tmp_path), b"tmpfs", 0, b"size=16k") if os.geteuid() == 0 else -1
    if made:
        pytest.skip("needs root, who may mount")
    (tmp_path / "receipts").mkdir()
    with pytest.raises(OSError), (tmp_path / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    yield tmp_path
    LIBC.umount2(os.fsencode(tmp_path), MNT_DETACH)


def begin(state: Path) -> str:
    roles = [{"role": "nas", "inputs": {}, "outputs": []}]
    request = {"operation": "begin", "state_dir": str(state), "nonce": "1", "roles": roles}
    return str(json.loads(receipt_agent.answer(json.dumps(request)))["error"])


def test_a_full_disk_is_said_to_be_full(full: Path) -> None:
    said = begin(full)
    assert f"the receipts in {full}: No space left on device" in said
    assert "see df and df -i" in said
    assert "root" not in said.replace(str(full), "")
    assert not list(full.glob("receipts/*"))


def test_a_disk_that_is_mounted_read_only_is_said_to_be(full: Path) -> None:
    assert LIBC.mount(b"none", os.fsencode(full), None, MS_REMOUNT | MS_RDONLY, None) == 0
    assert "It is mounted read-only" in begin(full)
