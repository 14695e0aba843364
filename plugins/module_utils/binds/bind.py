# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One place that containers see, as it is declared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts

DIRECTORY = "/run/gpustead/binds"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}\Z")


@dataclass(frozen=True)
class Bind:
    """One place.

    Attributes:
        name: its name below the directory of its set.
        root: a directory whose path only root can change: a mount point of a share, or /.
        path: the place, below `root`; no step of it may be a link.
        owner: uid that it must belong to; None for any.
        only_account: the only account of the host that it may belong to; what is no account's may be anybody's.
        mounted: whether something must be mounted on `root`.
        read_only: whether containers only read it.
        cover: whether the place itself loses setuid programs and devices: containers write there, and the host's
            accounts reach it.
        own: whether the place is to be a mount of its own, also where setuid programs do nothing already.
        linked: whether files there have second names that are meant, as those of a brick of GlusterFS.
        never: paths that it must neither be nor be in, by whatever name.
        propagation: whether mounts that come later at the place are seen (slave), never (private), or are passed on
            among those that bind it (shared). They are never passed on to the host.
    """

    name: str
    root: str
    path: str
    owner: int | None = None
    only_account: int | None = None
    mounted: bool = False
    read_only: bool = False
    cover: bool = False
    own: bool = False
    linked: bool = False
    never: tuple[str, ...] = ()
    propagation: str = "slave"

    @property
    def source(self) -> str:
        return os.path.join(self.root, self.path)


def parse(raw: Mapping[str, Any]) -> Bind:
    """A bind from a module's argument or root's file; raises GpusteadError for one that cannot be meant."""
    name, root, path = (str(raw.get(key) or "") for key in ("name", "root", "path"))
    if not NAME.match(name):
        raise GpusteadError(f"name {name!r} of a bind", "letters, digits, '.', '_' and '-'", "Correct it.")
    if not root.startswith("/") or ".." in root.split("/"):
        raise GpusteadError(f"root {root!r} of bind {name}", "an absolute path without '..'", "Correct it.")
    as_account.steps(path)
    propagation = str(raw.get("propagation") or "slave")
    propagation = propagation[1:] if propagation[1:] in mounts.PROPAGATIONS else propagation
    if propagation not in mounts.PROPAGATIONS:
        raise GpusteadError(
            f"propagation {propagation!r} of bind {name}", f"one of {mounts.PROPAGATIONS}", "Correct it."
        )
    return Bind(
        name=name,
        root=root,
        path=path,
        owner=_uid(raw, "owner"),
        only_account=_uid(raw, "only_account"),
        mounted=bool(raw.get("mounted")),
        read_only=bool(raw.get("read_only")),
        cover=bool(raw.get("cover")),
        own=bool(raw.get("own")),
        linked=bool(raw.get("linked")),
        never=tuple(str(one) for one in raw.get("never") or ()),
        propagation=propagation,
    )


def _uid(raw: Mapping[str, Any], key: str) -> int | None:
    return None if raw.get(key) is None else int(raw[key])
