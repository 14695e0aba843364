# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the containers of workspaces bind, as places for `binds`; and which paths of the host they must not see."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.common_place import DATASETS, GROUPS, Common
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.containers import ContainerBind
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace, WorkspaceAccount

SET = "workspace"
# Whoever is root in a container would read there what is root's on the host, or talk to what runs as root.
CLOSED = (
    *("/boot", "/dev", "/etc", "/home", "/lost+found", "/proc", "/root", "/run", "/sys"),
    *("/var/backups", "/var/lib/containerd", "/var/lib/docker", "/var/lib/gpustead", "/var/run"),
)
# Root's programs and what they rely on, and where all accounts keep what they share.
SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/tmp", "/usr", "/var")
# Of these only the directory itself: what lies below is the site's own.
_ITSELF = ("/opt",)


@dataclass(frozen=True)
class HostLayout:
    """What is special on a host.

    Attributes:
        nas: where the share is mounted.
        local_dir: where workspaces have their places on the node.
        config_dir: where root's files for containers lie.
        owner_uid: of the account that owns the cluster.
        propagation: as Docker names it.
        display: whether a display of the host is shown.
        places: directories in the place of each workspace on the node.
        homes: where the homes lie on the host.
        settings: what of them is copied.
        common: what accounts have in common on the share.
    """

    nas: str = "/mnt/nas"
    local_dir: str = "/var/lib/gpustead/workspace"
    config_dir: str = "/etc/gpustead"
    owner_uid: int | None = None
    propagation: str = "rslave"
    display: bool = False
    places: Sequence[str] = ()
    homes: str = "/home"
    settings: Sequence[str] = ()
    common: Common = field(default_factory=Common)


@dataclass(frozen=True)
class Binds:
    """What the containers of a node bind: all places, for module `binds`, and of each owner's containers in both
    profiles (`common`), and in profile local besides (`local`)."""

    places: tuple[Mapping[str, Any], ...]
    common: Mapping[str, tuple[ContainerBind, ...]]
    local: Mapping[str, tuple[ContainerBind, ...]]


def normal(path: str) -> str:
    """A path without '..', double slashes and the slash at its end."""
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def closed(layout: HostLayout) -> tuple[str, ...]:
    """Paths that no container may see, nor what lies below them."""
    nas = normal(layout.nas)
    return (*CLOSED, f"{nas}/.cluster", f"{nas}/users", normal(layout.local_dir), normal(layout.config_dir))


def refusal(host: str, read_only: bool, layout: HostLayout) -> tuple[str, str]:
    """Why a path of the host must not be bound, and what to do; two empty texts where it may be."""
    path = normal(host)
    inside = [one for one in closed(layout) if _within(path, one)]
    holds = [one for one in (*closed(layout), normal(layout.nas)) if _within(one, path)]
    name = host if host == path else f"{host} ({path})"
    if path == normal(layout.nas):
        return f"{name} is the root of the share", "Bind a directory below it, other than users and .cluster."
    if inside and inside[0] in ("/home", f"{normal(layout.nas)}/users"):
        return f"{name} holds homes", "Each workspace has those of its own accounts; put common data elsewhere."
    if inside:
        return f"{name} is the system's own ({inside[0]})", "Bind a directory that holds nothing but data."
    if holds:
        return f"{name} holds {holds[0]}", "Bind a directory that holds nothing but data."
    system = [one for one in SYSTEM if path == one or (_within(path, one) and one not in _ITSELF)]
    if system and not read_only:
        return (
            f"{name} is a directory of the system's ({system[0]}), to be written",
            "Set read_only: true, or bind another.",
        )
    return "", ""


def _within(path: str, folder: str) -> bool:
    return folder in (path, "/") or path.startswith(f"{folder}/")


def is_read_only(entry: Mapping[str, Any]) -> bool:
    """As it is meant, also where it came from the command line as text."""
    return str(entry.get("read_only")).lower() in ("true", "yes", "on", "1")


def path_of(name: str) -> str:
    """Where a place is mounted, for containers to bind it."""
    return f"{DIRECTORY}/{SET}/{name}"


def plan(workspaces: Iterable[Workspace], mounts: Sequence[Mapping[str, Any]], layout: HostLayout) -> Binds:
    """What the containers of all workspaces bind.

    Raises:
        GpusteadError: a path of `mounts` that must not be bound.
    """
    places: dict[str, dict[str, Any]] = {}
    common: dict[str, tuple[ContainerBind, ...]] = {}
    local: dict[str, tuple[ContainerBind, ...]] = {}

    def bound(place: dict[str, Any], path: str, guest: str = "") -> ContainerBind:
        places[place["name"]] = place
        return ContainerBind(place["name"], path_of(place["name"]), path, bool(place.get("read_only")), guest)

    of_all = [bound(_on_share(layout, "shared", "shared", only_account=layout.owner_uid), "/shared")]
    of_all += [bound(_mount(entry, layout), str(entry["path"])) for entry in mounts]
    for workspace in workspaces:
        owner = workspace.owner
        homes = [
            bound(_home(layout, account), f"/home/{account.name}", account.name if account.name != owner else "")
            for account in workspace.accounts
        ]
        common[owner] = (*homes, *of_all, *(bound(place, path) for place, path in _of_groups(layout, owner)))
        own = {"name": f"local-{owner}", "root": layout.local_dir, "path": owner, "owner": workspace.account.uid}
        local[owner] = (bound({**own, "propagation": "private"}, "/local"),)
        if layout.display:
            x11 = {"name": "x11", "root": "/", "path": "tmp/.X11-unix", "owner": 0, "read_only": True}
            local[owner] += (bound({**x11, "propagation": "private"}, "/tmp/.X11-unix"),)
    return Binds(tuple(places.values()), common, local)


def _of_groups(layout: HostLayout, owner: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Data sets, to be written by who may, and the places of the owner's groups: root in a container may be anybody."""
    datasets = layout.common.datasets
    if datasets:
        writes = datasets.has(owner)
        name = DATASETS if writes else f"{DATASETS}-ro"
        yield _on_share(layout, name, DATASETS, only_account=layout.owner_uid, read_only=not writes), f"/{DATASETS}"
    for group in layout.common.directories:
        if group.has(owner):
            path = f"{GROUPS}/{group.name}"
            yield _on_share(layout, f"group-{group.name}", path, only_account=layout.owner_uid), f"/{path}"


def _on_share(layout: HostLayout, name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "root": layout.nas, "path": path, "mounted": True, "propagation": layout.propagation, **more}


def _home(layout: HostLayout, account: WorkspaceAccount) -> dict[str, Any]:
    return _on_share(layout, f"home-{account.name}", f"users/{account.name}", owner=account.uid)


def _mount(entry: Mapping[str, Any], layout: HostLayout) -> dict[str, Any]:
    host, read_only = str(entry["host"]), is_read_only(entry)
    what, remedy = refusal(host, read_only, layout)
    if what:
        raise GpusteadError(f"workspace_mounts: {what}", "a directory of data", remedy)
    path = normal(host)
    words = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:40]
    mark = hashlib.sha256(f"{path} {read_only}".encode()).hexdigest()[:8]
    return {
        **{"name": f"mount-{words}-{mark}", "root": "/", "path": path.lstrip("/"), "read_only": read_only},
        # What is written by root in a container, the host's accounts could run.
        **{"cover": not read_only, "never": list(closed(layout)), "propagation": layout.propagation},
    }


def receipt(workspaces: Iterable[Workspace], binds: Binds, layout: HostLayout) -> dict[str, list[dict[str, Any]]]:
    """What of it a receipt vouches for: `reads` (settings), and outputs of the kinds `bind`, `file` and `tree`."""
    copies = f"{layout.local_dir}/.settings"
    files = [_directory(layout.local_dir, "0:0", "0700"), _directory(copies, "0:0", "0700")]
    trees, reads = [], []
    for workspace in workspaces:
        name, ids = workspace.owner, f"{workspace.account.uid}:{workspace.account.gid}"
        own = f"{layout.local_dir}/{name}"
        places = (own, *(f"{own}/{inner}" for inner in layout.places))
        files += [{**_directory(path, ids, "0700"), "account": name} for path in places]
        files.append(_directory(f"{copies}/{name}", "0:0", "0755"))
        trees.append({"name": f"{copies}/{name}", "account": name, "expect": {"type": "directory"}})
        about = {"account": name, "homes": layout.homes, "paths": list(layout.settings), "as": ids}
        reads.append({"name": f"{layout.homes}/{name}", **about})
    mounted = [_mounted(place) for place in binds.places]
    return {"reads": reads if layout.settings else [], "bind": mounted, "file": files, "tree": trees}


def _mounted(bind: Mapping[str, Any]) -> dict[str, Any]:
    expect = {"read_only": True} if bind.get("read_only") else {}
    if bind.get("cover"):
        place = posixpath.join(bind["root"], bind["path"])
        return {"name": path_of(bind["name"]), "cover": place, "expect": {**expect, "covered": True}}
    if not bind.get("mounted"):
        return {"name": path_of(bind["name"]), "expect": expect}
    return {"name": path_of(bind["name"]), "root": bind["root"], "expect": {**expect, "current": True}}


def _directory(name: str, owner: str, mode: str) -> dict[str, Any]:
    # Its kind, never what is in it: an account could have put a file there.
    return {"name": name, "keep": True, "content": False, "expect": {"type": "directory", "owner": owner, "mode": mode}}


@dataclass(frozen=True)
class Available:
    """What one owner's containers bind where some places could not be mounted.

    Attributes:
        binds: those of both profiles, without the homes of guests that are missing.
        missing_guests: names of these guests.
        refused: why there can be no workspace, or empty.
    """

    binds: tuple[ContainerBind, ...]
    missing_guests: tuple[str, ...]
    refused: str


def available(
    workspace: Workspace, binds: Binds, mounted: Mapping[str, Any], places: Sequence[Mapping[str, str]]
) -> Available:
    """What is left of a workspace's binds.

    Args:
        workspace: the workspace.
        binds: of `plan`.
        mounted: what module binds returned: `refused`, and `missing`, names of those of them that are not mounted, as
            they were not before either.
        places: the places on the node that module local_place refused.
    """
    missing: Collection[str] = mounted.get("missing") or ()
    guests = tuple(bind.guest for bind in binds.common[workspace.owner] if bind.guest and bind.name in missing)
    common = tuple(bind for bind in binds.common[workspace.owner] if not bind.guest or bind.guest not in guests)
    local = binds.local[workspace.owner] if workspace.profile == "local" else ()
    needed = {bind.name for bind in (*common, *local) if bind.name in missing}
    reasons = [str(Refusal(**one)) for one in places if local and one["name"] == workspace.owner]
    reasons += [str(Refusal(**one)) for one in mounted.get("refused") or () if one["name"] in needed]
    return Available(common, guests, " ".join(reasons))
