# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bare directory beneath a mount, with real mounts in a mount namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mountpoint import Bare, Mountpoint

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="needs root and mount namespaces",
)


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "deep" / "nas"
    run(["umount", str(tmp_path / "deep" / "nas")])
    run(["chattr", "-i", str(tmp_path / "deep" / "nas")])


@pytest.mark.parametrize("bad", ["nas", "/", "/mnt/nas/", "/mnt/../nas", ""])
def test_bad_path(bad: str) -> None:
    with pytest.raises(GpusteadError, match="mountpoint"):
        Mountpoint(bad, run)


@pytest.mark.parametrize(
    ("bare", "protected"),
    [
        (Bare(""), False),
        (Bare("755"), False),
        (Bare("755", True), True),
        (Bare("0"), True),
    ],
)
def test_protected(bare: Bare, protected: bool) -> None:
    assert bare.protected is protected


@needs_root
def test_missing_directory_is_made_and_refuses_root(path: Path) -> None:
    point = Mountpoint(str(path), run)
    assert point.observe() == Bare("")
    after = point.protect(point.observe())
    assert after.protected
    assert point.observe() == after
    if after.immutable:
        with pytest.raises(PermissionError):
            (path / "x").write_text("")


@needs_root
def test_the_way_to_it_is_everybodys_whatever_the_umask(tmp_path: Path) -> None:
    """Hardened hosts have 027 or 077 (CIS Benchmarks, 5.4.3.3): accounts could not reach the share."""
    path, former = tmp_path / "data/shared/nas", os.umask(0o077)
    try:
        point = Mountpoint(str(path), run)
        point.protect(point.observe())
    finally:
        os.umask(former)
        run(["chattr", "-i", str(path)])
    assert [place.stat().st_mode & 0o777 for place in (path.parent, path.parent.parent)] == [0o755, 0o755]
    tmp_path.chmod(0o700)
    Mountpoint(str(tmp_path / "other"), run).protect(Bare(""))  # what is there stays as it is
    run(["chattr", "-i", str(tmp_path / "other")])
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@needs_root
def test_beneath_a_mount(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "forgotten").write_text("")
    if run(["mount", "-t", "tmpfs", "none", str(path)])[0]:
        pytest.skip("may not mount")
    (path / "on the share").write_text("")
    point = Mountpoint(str(path), run)
    assert point.observe() == Bare("755", False, 1)
    assert point.protect(point.observe()).protected
    (path / "still writable").write_text("")
    assert sorted(entry.name for entry in path.iterdir()) == ["on the share", "still writable"]


@needs_root
def test_a_file_in_the_way(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("")
    with pytest.raises(GpusteadError, match="a directory"):
        Mountpoint(str(path), run).observe()
