# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The SSH host key of a container, made once on its host and kept to root, with what is public of it beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.files.apply_host_files import apply_all, plan_all
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import HostEntry, Plan
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_user_key import generate, public_of
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


@dataclass(frozen=True)
class HostKey:
    """What was done, or would be.

    Attributes:
        plans: of the private key, the public one, and the certificate.
        public, certificate: the lines of their files; empty where there is none, also of a key that a check would make.
    """

    plans: Sequence[Plan]
    public: str
    certificate: str


def ensure(path: str, comment: str, certificate: str, run: Run, *, check: bool) -> HostKey:
    """Make the key where none is, and keep it to root.

    Args:
        path: of the private key, in a directory that only root can change.
        comment: what a new key is called.
        certificate: what is to be in the file of the certificate; empty leaves what is there.
        run: runs ssh-keygen.
        check: change nothing.

    Raises:
        GpusteadError: it cannot be made, or not be kept to root.
        OSError: one of the files cannot be read.
    """
    private, public = _read(path), _read(f"{path}.pub")
    if not private and not check:
        private, public = generate(comment, run), ""
    if private and not public:
        public = f"{public_of(private, path)} {comment}\n"
    entries = [
        HostEntry(path, "file", mode=0o600, content=private.encode(), secret=True, once=True),
        HostEntry(f"{path}.pub", "file", mode=0o644, content=public.encode()),
    ]
    state, content = ("file", certificate.encode()) if certificate else ("existing", None)
    entries.append(HostEntry(f"{path}-cert.pub", state, mode=0o644, content=content))
    plans = plan_all(entries)
    if not check:
        apply_all(plans)
    return HostKey(plans, public, certificate or _read(f"{path}-cert.pub"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
