# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where things lie, in the mesh's container and outside of it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

# Of the cluster, bound read-only into the mesh.
MESH = Path(os.environ.get("GPUSTEAD_MESH_DIR", "/mesh"))
# Of the node, in the mesh's container alone.
NODE_ENV = Path(os.environ.get("GPUSTEAD_MESH_ENV", "/etc/gpustead/mesh.env"))
# Of the node, for all who start runs: where the programs lie.
PROGRAMS = Path(__file__).resolve().parents[1]
# Of the cluster, root's on each node: settings for all runs.
SETTINGS = Path(os.environ.get("GPUSTEAD_MESH_SETTINGS", PROGRAMS / "deepspeed_env"))
# What ssh is told of the nodes, and nothing else: a person's own settings may share connections, or lead elsewhere.
SSH_CONFIG = os.environ.get("GPUSTEAD_MESH_SSH_CONFIG", "/run/gpustead/ssh_config")
# Where the socket is by which one comes in: of containers, and of the node.
DOORS = (Path("/run/gpustead/door"), Path("/var/lib/gpustead-mesh"))
# Root's, with a directory of each account's own.
ACCOUNTS = Path(os.environ.get("GPUSTEAD_MESH_PLACES", "/var/lib/gpustead/accounts"))
# Of the node, for all.
SHM = Path(os.environ.get("GPUSTEAD_MESH_SHM", "/dev/shm"))
KEY = ".config/gpustead/mesh_key"  # below the home on the share
LOGS = "mesh-runs"  # likewise
_SIZE = 1 << 22  # bytes


def account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def own() -> Path:
    """This account's directory on this node, which nobody else enters."""
    return ACCOUNTS / account()


def in_mesh() -> bool:
    return NODE_ENV.exists()


def read(path: Path) -> str:
    """A file of the cluster's on the share, of which whoever can write there as others may have made something else.

    Raises:
        OSError: it is not there, or a link.
        ValueError: it is no file, too large, or no text.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no file")
        data = file.read(_SIZE + 1)
    if len(data) > _SIZE:
        raise ValueError(f"it has more than {_SIZE} bytes")
    return data.decode()


def shown(text: object, limit: int = 400) -> str:
    """One line of printable characters, of what others wrote: an escape sequence would move whoever reads it."""
    plain = "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
