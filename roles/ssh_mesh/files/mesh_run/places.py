# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where things lie, in the mesh's container and outside of it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

# Of the cluster, bound read-only into the mesh.
MESH = Path(os.environ.get("GPUSTEAD_MESH_DIR", "/mesh"))
# Of the node, in the mesh's container alone.
NODE_ENV = Path(os.environ.get("GPUSTEAD_MESH_ENV", "/etc/gpustead/mesh.env"))
# Of the node, for all who start runs: where the programs lie.
PROGRAMS = Path(__file__).resolve().parents[1]
# Root's, with a directory of each account's own.
ACCOUNTS = Path(os.environ.get("GPUSTEAD_MESH_PLACES", "/var/lib/gpustead/accounts"))
KEY = ".config/gpustead/mesh_key"  # below the home on the share
LOGS = "mesh-runs"  # likewise


def account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def own() -> Path:
    """This account's directory on this node, which nobody else enters."""
    return ACCOUNTS / account()


def in_mesh() -> bool:
    return NODE_ENV.exists()
