# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role nas wants of a host: its mounts, what it serves, and what it takes back, from what is declared and seen."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import HARMLESS
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import layout
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import Owner
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import DeclaredMount, bare, harmless

NFS, GLUSTER = "nfs4", "glusterfs"
SERVER_PACKAGES = {GLUSTER: ("glusterfs-server", "glusterfs-client"), NFS: ("nfs-kernel-server",)}
SERVER_UNITS = {GLUSTER: "glusterd.service", NFS: "nfs-kernel-server.service"}
# chattr is in it.
CLIENT_PACKAGES = ("e2fsprogs",)
# Root in a container can give any file on the share to anybody; on the host none must act as them.
_HARMLESS = dict.fromkeys(HARMLESS, True)
# Who comes from another port than root's could say that they are anybody.
PORT_OPTIONS = {"client.bind-insecure": "off", "server.allow-insecure": "off"}


@dataclass(frozen=True)
class Settings:
    """The settings of the role on a host.

    Attributes:
        is_client: whether it mounts the share.
        backend: with what it serves the share, NFS or GLUSTER; empty where it does not.
        mounts: the main share and further mounts, each with `path` and `source`, and `fstype` and `options` if given.
        options: options of mounts without any, by kind; `other_options` those of other kinds.
        packages: packages of the kinds that are mounted.
        client_files, exports: files of the role's: those of a client (what orders Docker after the mounts, what closes
            the table of mounts at boot), and the one of exports.
        export: the directory that is served.
        volume, address, networks, root_squash: of the GlusterFS volume: name, address of the server, networks that
            may mount it, whether root is nobody there.
        service_account: uid and gid of the account that the layout of the share belongs to.
        users: the declared accounts.
        nodes: the names of all nodes.
        served: whether the cluster has a server of its own for the share.
        moved_to: the source to which this run has moved the files of the cluster, off the disk of its only node.
    """

    is_client: bool
    backend: str
    mounts: Sequence[Mapping[str, Any]]
    options: Mapping[str, str]
    other_options: str
    packages: Sequence[str]
    client_files: Sequence[str]
    exports: str
    export: str
    volume: str
    address: str
    networks: Sequence[str]
    root_squash: bool
    service_account: Mapping[str, Any]
    users: Sequence[Mapping[str, Any]]
    nodes: Sequence[str]
    served: bool = False
    moved_to: str = ""


@dataclass(frozen=True)
class Former:
    """What the role left last time and is no longer declared.

    Attributes:
        main: where the main share was mounted, if it is among it; else empty.
        mounts: mountpoints.
        bound: what running containers bind of the main share.
        files, volumes: files, and GlusterFS volumes.
    """

    main: str
    mounts: list[str]
    bound: list[str]
    files: list[str]
    volumes: list[str]


@dataclass(frozen=True)
class Plan:
    """What the tasks of the role take, and what its receipt holds.

    Attributes:
        mounts: the mounts of a client.
        place: the directory on the node's own disk that stands for the share; empty where one is mounted.
        packages: packages of a client; `server_packages` those of a server.
        cover: the export or the directory, as module binds takes a place, where accounts reach it; else none.
        layout_owner: uid and gid of the account that the layout of the share belongs to.
        layout: what of the layout is the server's to put right, where the nodes have made it, as module nas_files takes
            it.
        volume_options: options that the GlusterFS volume does not have yet: `key` and `value`.
        former: what is to be taken back.
        receipt: subjects by kind.
    """

    mounts: list[DeclaredMount]
    place: str
    packages: list[str]
    server_packages: list[str]
    cover: list[dict[str, Any]]
    layout_owner: Owner
    layout: list[dict[str, Any]]
    volume_options: list[dict[str, str]]
    former: Former
    receipt: dict[str, list[Any]]


def plan(
    settings: Settings,
    *,
    previous: Sequence[Sequence[Any]] = (),
    volume: Sequence[str] | None = None,
    bound: str = "",
    released: Sequence[str] = (),
) -> Plan:
    """Plan a host.

    Args:
        settings: of the role.
        previous: what the role left last time, as (kind, subject) (`previous` of module receipt_write).
        volume: lines of `gluster volume info`; None where there is no such volume.
        bound: the sources of the mounts of running containers, as `docker ps` says.
        released: where places below the mounts that are taken back are mounted for containers (`released` of module
            binds).

    Raises:
        GpusteadError: a client's mount has no source, or what is declared would hide the files of the cluster.
    """
    place = _place(settings)
    mounts = [_mount(one, settings) for one in settings.mounts[bool(place) :] if settings.is_client]
    _refuse_without_source(mounts, settings)
    _refuse_to_hide(settings, place, previous)
    # Without a mount there is nothing that needs a client.
    packages = [*CLIENT_PACKAGES, *settings.packages] if mounts else []
    return Plan(
        mounts=mounts,
        place=place,
        packages=packages,
        server_packages=list(SERVER_PACKAGES.get(settings.backend, ())),
        cover=_cover(settings, place),
        layout_owner=Owner.of(settings.service_account),
        layout=_layout(settings),
        volume_options=_missing_options(settings, volume),
        former=_former(settings, mounts, previous, bound, released),
        receipt=_receipt(settings, mounts, packages, place),
    )


def _place(settings: Settings) -> str:
    """One node has no need of a share: its own disk has the same directories, with the same owners."""
    main = settings.mounts[0]
    alone = settings.is_client and len(settings.nodes) == 1 and not settings.served
    return bare(str(main["path"])) if alone and not str(main.get("source") or "").strip() else ""


def _mount(given: Mapping[str, Any], settings: Settings) -> DeclaredMount:
    fstype = str(given.get("fstype") or settings.mounts[0]["fstype"])
    options = given.get("options", settings.options.get(fstype, settings.other_options))
    return DeclaredMount(str(given["path"]), str(given.get("source") or "").strip(), fstype, harmless(str(options)))


def _refuse_without_source(mounts: Sequence[DeclaredMount], settings: Settings) -> None:
    missing = [
        f"{one.path} ({'nas_source' if one.path == str(settings.mounts[0]['path']) else 'nas_extra_mounts'})"
        for one in mounts
        if not one.source
    ]
    if missing:
        raise GpusteadError(
            f"the source of the mount on {', '.join(missing)} is empty",
            "something like nas.example.org:/export",
            "Set it in your inventory.",
        )


def _refuse_to_hide(settings: Settings, place: str, previous: Sequence[Sequence[Any]]) -> None:
    """Raise where people would find nothing of theirs: another place, and the files still lie in the one before."""
    if not settings.is_client:
        return
    main, source = bare(str(settings.mounts[0]["path"])), str(settings.mounts[0].get("source") or "").strip()
    before = [bare(str(subject["name"])) for kind, subject in previous if kind == "cover" and subject.get("place")]
    left = [path for path in before if path != place]
    if left and (not source or settings.moved_to != source):
        now = f"{source} on {main}" if source else main
        remedy = (
            "Move them there with playbooks/move_to_nas.yml, see docs/one-server.md."
            if source and left[0] == main
            else f"Set cluster_nas_path to {left[0]} again."
        )
        raise GpusteadError(f"the files of the cluster lie in {left[0]} on this node's own disk", now, remedy)
    if place and any(kind == "mount" and bare(str(subject["name"])) == place for kind, subject in previous):
        raise GpusteadError(
            f"the share was mounted on {place} of this node, and now nothing is declared to be",
            "its files where they were",
            "Set nas_source again. To begin anew without a NAS, set another cluster_nas_path.",
        )


def _cover(settings: Settings, place: str) -> list[dict[str, Any]]:
    """Accounts log in to a client, and on one that is the server as well, or has the files on its own disk, they could
    reach these without the options of a mount: what root leaves there in a container would be root's on the host."""
    if place:
        return [{"name": "share", "root": "/", "path": place.lstrip("/"), "cover": True, "own": True}]
    if not (settings.is_client and settings.backend):
        return []
    path = bare(settings.export).lstrip("/")
    return [{"name": "export", "root": "/", "path": path, "cover": True, "linked": True}]


def _layout(settings: Settings) -> list[dict[str, Any]]:
    options = layout.entry_options(Owner.of(settings.service_account), settings.users)
    files = [layout.IMAGES, *(f"{layout.NODES}/{node}.json" for node in settings.nodes)]
    return [
        *(
            {"path": path, "mode": mode, "state": "existing_directory", **options}
            for path, mode in layout.DIRECTORIES.items()
        ),
        *({"path": path, "mode": layout.FILE_MODE, "state": "existing", **options} for path in files),
    ]


def _options_of_volume(settings: Settings) -> dict[str, str]:
    # GlusterFS knows no networks of IPv6. Its own processes come from the first two addresses.
    clients = ["127.0.0.1", settings.address, *(network for network in settings.networks if "." in network)]
    return {
        "auth.allow": ",".join(dict.fromkeys(clients)),
        "server.root-squash": "on" if settings.root_squash else "off",
        "storage.owner-uid": str(settings.service_account["uid"]),
        "storage.owner-gid": str(settings.service_account["gid"]),
    }


def _missing_options(settings: Settings, volume: Sequence[str] | None) -> list[dict[str, str]]:
    wanted = _options_of_volume(settings)
    # A volume that clients have mounted without these would be lost to them: it stays as it is.
    if volume is None or "client.bind-insecure: off" in volume:
        wanted.update(PORT_OPTIONS)
    return [{"key": key, "value": value} for key, value in wanted.items() if f"{key}: {value}" not in (volume or ())]


def _former(
    settings: Settings,
    declared: Sequence[DeclaredMount],
    previous: Sequence[Sequence[Any]],
    bound: str,
    released: Sequence[str],
) -> Former:
    left: dict[str, list[str]] = {"mount": [], "file": [], "gluster": []}
    for kind, subject in previous:
        if kind in left:
            left[kind].append(str(subject["name"]))
    before = [bare(path) for path in left["mount"]]
    mounts = sorted(set(before) - {one.place for one in declared})
    main = before[0] if before and before[0] in mounts else ""
    unused = [] if declared else list(settings.client_files)
    unused += [] if settings.backend == NFS else [settings.exports]
    return Former(
        main=main,
        mounts=mounts,
        bound=_bound(main, bound, released) if main else [],
        files=[path for path in unused if path in left["file"]],
        volumes=sorted(set(left["gluster"]) - ({settings.volume} if settings.backend == GLUSTER else set())),
    )


def _bound(main: str, bound: str, released: Sequence[str]) -> list[str]:
    """Of what containers bind, what lies on the share, or is one of the places that show a part of it."""
    found = re.findall(r"[^,\s]+", bound)
    return sorted({path for path in found if path == main or path.startswith(f"{main}/") or path in released})


def _receipt(
    settings: Settings, mounts: Sequence[DeclaredMount], packages: Sequence[str], place: str
) -> dict[str, list[Any]]:
    nfs, gluster = settings.backend == NFS, settings.backend == GLUSTER
    return {
        "package": [*packages, *SERVER_PACKAGES.get(settings.backend, ())],
        "mount": [
            {"name": one.path, "expect": {**_HARMLESS, **({} if one.is_read_only else {"read_only": False})}}
            for one in mounts
        ],
        "mountpoint": [one.path for one in mounts],
        "file": [
            *(settings.client_files if mounts else ()),
            *([place] if place else ()),
            *([posixpath.dirname(settings.export)] if gluster else ()),
            *([settings.export] if settings.backend else ()),
            *([settings.exports] if nfs else ()),
        ],
        "unit": [unit for backend, unit in SERVER_UNITS.items() if backend == settings.backend],
        "gluster": [
            {
                "name": settings.volume,
                "keep": True,  # stopped where it is not declared any more; it holds data
                "options": sorted([*_options_of_volume(settings), *PORT_OPTIONS]),
            }
        ]
        if gluster
        else [],
        "export": [settings.export] if nfs else [],
        # It stays covered when accounts reach it no more: setuid programs may lie there.
        "cover": [
            {"name": f"/{one['path']}", "keep": True, "expect": {"covered": True}, **({"place": True} if place else {})}
            for one in _cover(settings, place)
        ],
    }
