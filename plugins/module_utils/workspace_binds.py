# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the containers of workspaces bind, as places for `binds`; and which paths of the host they must not see."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.binds import DIRECTORY
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

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
class Site:
    """What is special on a host.

    Attributes:
        nas: where the share is mounted.
        local_dir: where workspaces have their places on the node.
        config_dir: where root's files for containers lie.
        owner: the account that owns the cluster.
        users: the accounts, with `name` and `uid`.
        propagation: as Docker names it.
        display: whether a display of the host is shown.
    """

    nas: str = "/mnt/nas"
    local_dir: str = "/var/lib/gpustead/workspace"
    config_dir: str = "/etc/gpustead"
    owner: str = ""
    users: Sequence[Mapping[str, Any]] = ()
    propagation: str = "rslave"
    display: bool = False


def normal(path: str) -> str:
    """A path without '..', double slashes and the slash at its end."""
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def closed(site: Site) -> tuple[str, ...]:
    """Paths that no container may see, nor what lies below them."""
    nas = normal(site.nas)
    return (*CLOSED, f"{nas}/.cluster", f"{nas}/users", normal(site.local_dir), normal(site.config_dir))


def refusal(host: str, read_only: bool, site: Site) -> tuple[str, str]:
    """Why a path of the host must not be bound, and what to do; two empty texts where it may be."""
    path = normal(host)
    inside = [one for one in closed(site) if _within(path, one)]
    holds = [one for one in (*closed(site), normal(site.nas)) if _within(one, path)]
    name = host if host == path else f"{host} ({path})"
    if path == normal(site.nas):
        return f"{name} is the root of the share", "Bind a directory below it, other than users and .cluster."
    if inside and inside[0] in ("/home", f"{normal(site.nas)}/users"):
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


def place(name: str) -> str:
    """Where containers find it."""
    return f"{DIRECTORY}/{SET}/{name}"


def plan(workspaces: Iterable[Mapping[str, Any]], mounts: Sequence[Mapping[str, Any]], site: Site) -> dict[str, Any]:
    """The places of all workspaces (`binds`), and of each owner (`of`) what its containers bind.

    In `of`: `binds` of both profiles, `local` of profile local alone, each with `name` (of the place), `host`, `path`
    and `read_only`; those of guests have `guest`, too.

    Raises:
        GpusteadError: a path of `mounts` that must not be bound.
    """
    found: dict[str, dict[str, Any]] = {}
    of: dict[str, dict[str, Any]] = {}
    shared = _on_share(site, "shared", "shared", not_owners=_others(site))
    common = [_seen(found, shared, "/shared")]
    common += [_seen(found, _mount(entry, site), str(entry["path"])) for entry in mounts]
    for workspace in workspaces:
        owner, accounts = workspace["owner"], workspace["accounts"]
        homes = []
        for account in accounts:
            name = account["name"]
            home = _on_share(site, f"home-{name}", f"users/{name}", owner=account["uid"])
            guest = {"guest": name} if name != owner else {}
            homes.append({**_seen(found, home, f"/home/{name}"), **guest})
        own = {
            **{"name": f"local-{owner}", "root": site.local_dir, "path": owner, "owner": accounts[0]["uid"]},
            **{"propagation": "private"},
        }
        local = [_seen(found, own, "/local")]
        if site.display:
            x11 = {"name": "x11", "root": "/", "path": "tmp/.X11-unix", "owner": 0, "read_only": True}
            local.append(_seen(found, {**x11, "propagation": "private"}, "/tmp/.X11-unix"))
        of[owner] = {"binds": [*homes, *common], "local": local}
    return {"binds": list(found.values()), "of": of}


def _others(site: Site) -> list[int]:
    return [int(user["uid"]) for user in site.users if user.get("name") != site.owner and "uid" in user]


def _on_share(site: Site, name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "root": site.nas, "path": path, "mounted": True, "propagation": site.propagation, **more}


def _mount(entry: Mapping[str, Any], site: Site) -> dict[str, Any]:
    host, read_only = str(entry["host"]), bool(entry.get("read_only"))
    what, remedy = refusal(host, read_only, site)
    if what:
        raise GpusteadError(what, "a directory of data", remedy)
    path = normal(host)
    words = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:40]
    mark = hashlib.sha256(f"{path} {read_only}".encode()).hexdigest()[:8]
    return {
        **{"name": f"mount-{words}-{mark}", "root": "/", "path": path.lstrip("/"), "read_only": read_only},
        # What is written by root in a container, the host's accounts could run.
        **{"cover": not read_only, "never": list(closed(site)), "propagation": site.propagation},
    }


def _seen(found: dict[str, dict[str, Any]], bind: dict[str, Any], path: str) -> dict[str, Any]:
    found[bind["name"]] = bind
    name = bind["name"]
    return {"name": name, "host": place(name), "path": path, "read_only": bool(bind.get("read_only"))}


def without(ours: Mapping[str, Any], missing: Sequence[str]) -> dict[str, Any]:
    """What one owner's containers bind where some places are missing: guests without a home do not come in.

    Adds `guests`, the names of those that do not, and `lacking`, the names of places without which there is no
    workspace; those of profile local count for that profile alone, as `lacking_local`.
    """
    gone = [bind["guest"] for bind in ours["binds"] if bind.get("guest") and bind["name"] in missing]
    binds = [bind for bind in ours["binds"] if bind.get("guest") not in gone or not bind.get("guest")]
    return {
        "binds": binds,
        "local": list(ours["local"]),
        "guests": gone,
        "lacking": [bind["name"] for bind in binds if bind["name"] in missing],
        "lacking_local": [bind["name"] for bind in ours["local"] if bind["name"] in missing],
    }
