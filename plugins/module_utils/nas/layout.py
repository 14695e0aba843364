# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The layout of the share: directories that belong to an account that nobody logs in as, and who may write in them.

What accounts may write in is of a group that none of them has: through it they make what is theirs, once, and can
neither rename nor remove it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NODES, MESH, USERS = ".cluster/nodes", ".cluster/mesh", "users"
# Which nodes take no new runs, where the containers of the mesh see it; and who is at work with what.
DRAINED, LEASES = f"{MESH}/drained", ".cluster/leases"
# Who may be in the mesh. Its containers read it there, so that it counts at once on all nodes.
ACCOUNTS = ".cluster/accounts"
ACCOUNT_LIST = f"{ACCOUNTS}/accounts.json"
IMAGES = ".cluster/images.json"
# Octal modes, by path below the root of the share.
DIRECTORIES = {".cluster": "0755", NODES: "0755", ACCOUNTS: "0755", MESH: "1775", USERS: "1775"}
FILE_MODE = "0644"


@dataclass(frozen=True)
class Owner:
    """The account that the layout belongs to."""

    uid: int
    gid: int

    @classmethod
    def of(cls, account: Mapping[str, Any]) -> Owner:
        return cls(int(account["uid"]), int(account["gid"]))


def entry_options(owner: Owner, users: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all entries of module nas_files for the layout have: before that account there was, an account's it was."""
    former = [int(user["uid"]) for user in users if user.get("uid") is not None]
    return {"owner": owner.uid, "group": owner.gid, "former": former}
