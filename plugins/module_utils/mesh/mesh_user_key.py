# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The SSH key of the mesh's user on the share: made once, and its public half read out of it.

No program of root's is run on a file of the share: the public key stands in the private key's file in clear.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
import tempfile
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import (
    EntryChange,
    ShareEntry,
    how_to_move_away,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

SIZE = 1 << 14
_MAGIC = b"openssh-key-v1\0"
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_KIND = b"ssh-ed25519"


def public_of(text: str, name: str) -> str:
    """The public key, as `ssh-ed25519 AAAA…`, in the text of an unencrypted Ed25519 private key of OpenSSH.

    Raises:
        GpusteadError: it is something else.
    """
    lines = text.strip().splitlines()
    try:
        if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
            raise ValueError("it does not begin or end as one")
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not data.startswith(_MAGIC):
            raise ValueError("it is of another format")
        cipher, rest = _string(data[len(_MAGIC) :])
        _kdf, rest = _string(rest)
        _options, rest = _string(rest)
        if cipher != b"none" or rest[:4] != struct.pack(">I", 1):
            raise ValueError("it is encrypted, or holds several keys")
        blob, _private = _string(rest[4:])
        kind, key = _string(blob)
        if kind != _KIND or len(key) != 36 or key[:4] != struct.pack(">I", 32):
            raise ValueError("it is no Ed25519 key")
    except (ValueError, binascii.Error, struct.error) as error:
        remedy = "Move it out of the way, as its owner: the next run makes a new one."
        raise GpusteadError(f"{name} is no private key of the mesh ({error})", "an Ed25519 key", remedy) from error
    return f"{_KIND.decode()} {base64.b64encode(blob).decode()}"


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The first string of RFC 4251 in it, and what comes behind."""
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise ValueError("it ends too early")
    return data[4 : 4 + length], data[4 + length :]


def read(root: str, entry: ShareEntry, layout: Identity, timeout: float = 30) -> str | None:
    """The public key, read as its owner; None where there is no key yet. Raises GpusteadError for any damage."""
    who, place = Identity(entry.owner, entry.group), os.path.join(root, entry.path)
    # Whoever had the mesh before has a copy of it: it is not to be handed on.
    remedy = f"{how_to_move_away(place, layout.uid, layout.gid)}; the next run makes a new one."
    data = as_account.read(root, entry.path, who, size=SIZE, timeout=timeout, owner=entry.owner, another=remedy)
    if data is None:
        return None
    try:
        return public_of(data.decode("ascii", "replace"), place)
    except GpusteadError as error:
        raise GpusteadError(error.what, error.expected, remedy) from error


def generate(comment: str, run: Run) -> str:
    """A new private key, which has lain where root alone could see it. Raises GpusteadError where ssh-keygen fails."""
    with tempfile.TemporaryDirectory(prefix="gpustead-") as private:
        path = Path(private, "key")
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        must(run, argv, remedy="Install openssh-client.")
        return path.read_text(encoding="ascii")


def ensure_key(
    root: str, entry: ShareEntry, layout: Identity, comment: str, run: Run, *, check: bool
) -> tuple[EntryChange, str]:
    """Make the key where none is, and keep it to its owner; returns what changes, and the public key.

    Args:
        entry: the file, without content.
        layout: the account that the directory belongs to, and that nobody logs in as.
        comment: what the key is called.
        check: change nothing; then there is no public key where there is no key yet.

    Raises:
        GpusteadError: it cannot be made or used.
    """
    public = read(root, entry, layout)
    content = "" if public or check else generate(comment, run)
    wanted = ShareEntry(**{**vars(entry), "state": "file", "content": content, "once": True, "secret": True})
    (change,) = apply_all(root, [wanted], check, trusted=(layout.uid, layout.gid))
    return change, public or ("" if check else read(root, entry, layout) or "")
