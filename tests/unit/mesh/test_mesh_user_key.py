# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mesh's user key: made once, for its owner alone; what is no key is refused, and no program reads it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_user_key import ensure_key, generate, public_of
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import ShareEntry

ADA, SERVICE = 61500, 61941
ENTRY = ShareEntry("mesh/id", "file", ADA, ADA, 0o600, through=SERVICE)
LAYOUT = Identity(SERVICE, SERVICE)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def key(kind: str, passphrase: str = "") -> str:
    with tempfile.TemporaryDirectory() as top:
        argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "x", "-f", f"{top}/key"]
        subprocess.run(argv, check=True)
        return Path(top, "key").read_text()


@pytest.fixture
def share() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        mesh = Path(top, "mesh")
        mesh.mkdir()
        os.chown(mesh, SERVICE, SERVICE)
        mesh.chmod(0o1775)
        yield Path(top)


def test_the_public_key_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    private = generate("ada@mesh", run)
    (tmp_path / "key").write_text(private)
    (tmp_path / "key").chmod(0o600)
    out = subprocess.run(
        ["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True, check=True
    ).stdout
    assert f"{public_of(private, 'key')} ada@mesh" == out.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        key("rsa"),
        key("ed25519", "a passphrase"),
        key("ed25519").replace("OPENSSH", "EC"),
        key("ed25519")[:120],
        "-----BEGIN OPENSSH PRIVATE KEY-----\n====\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA/////w==\n-----END OPENSSH PRIVATE KEY-----\n",
        "\x1b[2J" * 9,
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(GpusteadError, match="is no private key of the mesh"):
        public_of(text, "id_ed25519")


def ensured(share: Path, check: bool = False) -> tuple[bool, str]:
    change, public = ensure_key(str(share), ENTRY, LAYOUT, "ada@mesh", run, check=check)
    assert "PRIVATE" not in change.before + change.after
    return change.changed, public


@needs_root
def test_the_key_is_made_once_for_its_owner_alone(share: Path) -> None:
    assert ensured(share, check=True) == (True, "")
    changed, public = ensured(share)
    assert changed and public.startswith("ssh-ed25519 ")
    assert ensured(share) == (False, public)
    status = (share / "mesh/id").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777, status.st_nlink) == (ADA, ADA, 0o600, 1)
    assert os.listdir(share / "mesh") == ["id"]
    (share / "mesh/id").chmod(0o644)
    assert ensured(share) == (True, public)
    assert (share / "mesh/id").stat().st_mode & 0o777 == 0o600


TRAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "no regular file"),
    "a link without end": (lambda path: path.symlink_to("/dev/zero"), "symbolic link"),
    "a link to root's": (lambda path: path.symlink_to("/etc/shadow"), "symbolic link"),
    "a file without end": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "longer than"),
    "a second name": (lambda path: os.link(path.parent / "other", path), "2 names"),
    "no key": (lambda path: path.write_text("hello"), "no private key"),
}


@needs_root
@pytest.mark.parametrize("case", TRAPS)
def test_a_trap_is_refused_at_once(share: Path, case: str) -> None:
    trap, reason = TRAPS[case]
    (share / "mesh/other").write_text(key("ed25519"))
    os.chown(share / "mesh/other", ADA, ADA)
    trap(share / "mesh/id")
    os.lchown(share / "mesh/id", ADA, ADA)
    began = time.monotonic()
    with pytest.raises(GpusteadError, match=reason):
        ensured(share)
    assert time.monotonic() - began < 10


@needs_root
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_key_of_another_is_refused_and_never_handed_on(share: Path, mode: int) -> None:
    """Who had the mesh before has a copy of it, and would go on from node to node as who has it now."""
    (share / "mesh/id").write_text(key("ed25519"))
    (share / "mesh/id").chmod(mode)
    os.chown(share / "mesh/id", ADA + 1, ADA + 1)
    for check in (True, False):
        with pytest.raises(GpusteadError, match=r"belongs to uid|cannot be read by uid") as refused:
            ensured(share, check=check)
        assert f"mv {share}/mesh/id {share}/mesh/id.aside" in refused.value.remedy
        assert "the next run makes a new one" in refused.value.remedy
    assert (share / "mesh/id").stat().st_uid == ADA + 1
