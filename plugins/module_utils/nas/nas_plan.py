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
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.nas_ports import (
    GLUSTERFS,
    LOCKD,
    MOUNTD,
    NFS3,
    NFS4,
    STATD,
    is_version_3,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import HARMLESS
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import layout
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import Owner
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import (
    DeclaredMount,
    bare,
    harmless,
    unit_of,
)

NFS = (NFS4, NFS3)
SERVER_PACKAGES = {GLUSTERFS: ("glusterfs-server", "glusterfs-client"), **dict.fromkeys(NFS, ("nfs-kernel-server",))}
SERVER_UNITS = {GLUSTERFS: "glusterd.service", **dict.fromkeys(NFS, "nfs-kernel-server.service")}
# Without them nobody speaks NFS 3; what needs them (rpc.statd) does not start then, see nfs.systemd(7).
RPCBIND_UNITS = ("rpcbind.socket", "rpcbind.service")
QUOTA_TIMER = "gpustead-quotas.timer"
# It would tell everybody about everybody, on a port of its own.
RQUOTAD = {"name": "quotarpc.service", "running": False, "expect": {"enabled": "disabled"}}
# chattr is in it.
CLIENT_PACKAGES = ("e2fsprogs",)
# Root in a container can give any file on the share to anybody; on the host none must act as them.
_HARMLESS = dict.fromkeys(HARMLESS, True)
# Who comes from another port than root's could say that they are anybody.
PORT_OPTIONS = {"client.bind-insecure": "off", "server.allow-insecure": "off"}
# hard: a program waits for the NAS rather than lose data. nofail: a NAS that is down does not stop the boot.
# nosuid, nodev: sudo in a container can give any file on the share to anybody; on the host it must not act as them.
_OF_NFS = "hard,noatime,nosuid,nodev,nconnect=4,_netdev,nofail"
_OPTIONS = {"nfs4": _OF_NFS, "nfs": _OF_NFS, "glusterfs": "_netdev,nofail,noatime,nosuid,nodev"}
_OTHER_OPTIONS = "_netdev,nofail,nosuid,nodev"
# mount.nfs asks mountd by UDP first, and waits where that is closed.
_OF_VERSION_3 = "nfsvers=3,proto=tcp,mountproto=tcp"


@dataclass(frozen=True)
class Settings:
    """The settings of the role on a host.

    Attributes:
        is_client: whether it mounts the share.
        backend: with what it serves the share, NFS4, NFS3 (beside 4) or GLUSTERFS; empty where it does not.
        mounts: the main share and further mounts, each with `path` and `source`, and `fstype` and `options` if given.
        nfs_version: the version of NFS that mounts without options ask for; empty: what both sides know.
        automount: the kinds of which a mount without options is mounted when it is asked for.
        automount_idle: seconds after which such a one that nobody uses is unmounted; 0: never.
        automount_timeout: seconds that systemd gives a mount.
        packages: packages of the kinds that are mounted.
        client_files, exports, nfs_conf, lockd_conf: files of the role's: those of a client (what orders Docker after
            the mounts, what closes the table of mounts at boot), the one of exports, a part of nfs.conf, and the
            kernel's settings for lockd.
        export: the directory that is served.
        volume, address, networks, root_squash: of the GlusterFS volume: name, address of the server, networks that
            may mount it, whether root is nobody there.
        quotas: limits of accounts on the export in KiB, by uid; none: nobody has one.
        has_quotas: whether there are any in the cluster.
        quota_files, quota_command: files of the role's for them: of a server, and the command of a client.
        service_account: uid and gid of the account that the layout of the share belongs to.
        users: the declared accounts.
        nodes: the names of all nodes.
        served: whether the cluster has a server of its own for the share.
        moved_to: the source to which the files of the cluster have been moved, off the disk of its only node.
    """

    is_client: bool
    backend: str
    mounts: Sequence[Mapping[str, Any]]
    nfs_version: str
    automount: Sequence[str]
    automount_idle: int
    automount_timeout: int
    packages: Sequence[str]
    client_files: Sequence[str]
    exports: str
    nfs_conf: str
    lockd_conf: str
    export: str
    volume: str
    address: str
    networks: Sequence[str]
    root_squash: bool
    quotas: Mapping[str, int]
    has_quotas: bool
    quota_files: Sequence[str]
    quota_command: str
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
        units: those that were masked.
        timers: those that were started.
    """

    main: str
    mounts: list[str]
    bound: list[str]
    files: list[str]
    volumes: list[str]
    units: list[str]
    timers: list[str]


@dataclass(frozen=True)
class Plan:
    """What the tasks of the role take, and what its receipt holds.

    Attributes:
        mounts: the mounts of a client.
        units: what Docker starts after, the systemd units of these.
        place: the directory on the node's own disk that stands for the share; empty where one is mounted.
        packages: packages of a client; `server_packages` those of a server.
        nfs_conf: what NFS is configured by; empty where it is left alone.
        lockd_ports: settings of the kernel for lockd.
        rpc_units: the units of rpcbind, as module systemd_service takes them.
        serves_nfs: whether the host is an NFS server, and `serves_nfs3`, whether also of version 3.
        cover: the export or the directory, as module binds takes a place, where accounts reach it; else none.
        layout_owner: uid and gid of the account that the layout of the share belongs to.
        layout: what of the layout is the server's to put right, where the nodes have made it, as module nas_files takes
            it.
        quotas: limits to set, as module nas_quotas takes them: `path` and `limits`; 0 where one is taken back.
        volume_options: options that the GlusterFS volume does not have yet: `key` and `value`.
        former: what is to be taken back.
        receipt: subjects by kind.
    """

    mounts: list[DeclaredMount]
    units: list[str]
    place: str
    packages: list[str]
    server_packages: list[str]
    nfs_conf: str
    lockd_ports: dict[str, str]
    rpc_units: list[dict[str, Any]]
    serves_nfs: bool
    serves_nfs3: bool
    cover: list[dict[str, Any]]
    layout_owner: Owner
    layout: list[dict[str, Any]]
    quotas: list[dict[str, Any]]
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
        GpusteadError: a client's mount has no source, or asks for a version of NFS that its kind does not have; there
            are quotas for what has none; or what is declared would hide the files of the cluster.
    """
    place = _place(settings)
    mounts = [_mount(one, settings) for one in settings.mounts[bool(place) :] if settings.is_client]
    _refuse_without_source(mounts, settings)
    _refuse_another_version(settings, mounts)
    _refuse_to_hide(settings, place, previous)
    if settings.quotas and settings.backend == GLUSTERFS:
        raise GpusteadError(
            "nas_quota is set, and the share is served by GlusterFS, which has no quotas of users",
            "NFS",
            "Serve it by NFS (nas_server_backend), or take nas_quota out.",
        )
    # Without a mount there is nothing that needs a client.
    packages = [*CLIENT_PACKAGES, *settings.packages] if mounts else []
    return Plan(
        mounts=mounts,
        units=[unit_of(one.place, "mount") for one in mounts],
        place=place,
        packages=packages,
        server_packages=list(SERVER_PACKAGES.get(settings.backend, ())),
        nfs_conf=_nfs_conf(settings, mounts),
        lockd_ports=_lockd_ports(settings, mounts),
        rpc_units=_rpc_units(settings, mounts),
        serves_nfs=settings.backend in NFS,
        serves_nfs3=settings.backend == NFS3,
        cover=_cover(settings, place),
        layout_owner=Owner.of(settings.service_account),
        layout=_layout(settings),
        quotas=_quotas(settings, previous),
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
    options = given.get("options") or _options(fstype, settings)
    return DeclaredMount(str(given["path"]), str(given.get("source") or "").strip(), fstype, harmless(str(options)))


def _options(fstype: str, settings: Settings) -> str:
    """What suits a kind."""
    version = str(settings.nfs_version)
    parts = [_OPTIONS.get(fstype, _OTHER_OPTIONS)]
    if version and fstype in (("nfs",) if version == "3" else ("nfs", "nfs4")):
        parts.append(_OF_VERSION_3 if version == "3" else f"nfsvers={version}")
    automount = fstype in settings.automount
    parts += ["x-systemd.automount"] * automount
    if automount or fstype in _OPTIONS:
        parts.append(f"x-systemd.mount-timeout={settings.automount_timeout}")
    if automount and int(settings.automount_idle):
        parts.append(f"x-systemd.idle-timeout={settings.automount_idle}")
    return ",".join(parts)


def _has_locks(settings: Settings, mounts: Sequence[DeclaredMount]) -> bool:
    """Whether the host takes part in NFS 3, which has services of its own for locks."""
    mounted = any(one.fstype.startswith("nfs") and is_version_3(one.options) for one in mounts)
    return settings.backend == NFS3 or mounted


def _refuse_another_version(settings: Settings, mounts: Sequence[DeclaredMount]) -> None:
    if mounts and str(settings.nfs_version) == "3" and settings.mounts[0]["fstype"] == "nfs4":
        what = "nas_nfs_version (cluster_nfs_version) is 3, and nas_fstype nfs4"
        raise GpusteadError(what, "one that has this version", "Set nas_fstype to nfs.")


def _nfs_conf(settings: Settings, mounts: Sequence[DeclaredMount]) -> str:
    """What a server of one version must have, and who has locks by NFS 3: fixed ports, for a firewall to open.

    The server takes groups from the nodes, as it does ids. Debian's looks them up, and knows none of the cluster's.
    """
    lines = []
    if settings.backend in NFS:
        lines += ["[nfsd]", f"vers3={'y' if settings.backend == NFS3 else 'n'}", "[mountd]", "manage-gids=n"]
    if settings.backend == NFS3:
        lines += [f"port={MOUNTD}"]
    if _has_locks(settings, mounts):
        lines += ["[statd]", f"port={STATD}", "[lockd]", f"port={LOCKD}", f"udp-port={LOCKD}"]
    return "".join(f"{line}\n" for line in ["# Ansible managed", *lines]) if lines else ""


def _lockd_ports(settings: Settings, mounts: Sequence[DeclaredMount]) -> dict[str, str]:
    """Those of lockd, which is the kernel's: not every release of nfs-utils tells it what nfs.conf has."""
    locks = _has_locks(settings, mounts)
    return {f"fs.nfs.nlm_{proto}port": str(LOCKD) for proto in ("tcp", "udp")} if locks else {}


def _nfs_files(settings: Settings, mounts: Sequence[DeclaredMount]) -> list[str]:
    wanted = (_nfs_conf(settings, mounts), _lockd_ports(settings, mounts))
    return [path for path, content in zip((settings.nfs_conf, settings.lockd_conf), wanted) if content]


def _rpc_units(settings: Settings, mounts: Sequence[DeclaredMount]) -> list[dict[str, Any]]:
    """An NFS 4 server has no use for rpcbind, which tells everybody what runs there."""
    if _has_locks(settings, mounts):
        socket, service = RPCBIND_UNITS
        running = {"masked": False, "enabled": True}
        return [{"name": service, **running}, {"name": socket, **running, "state": "started"}]
    masked = RPCBIND_UNITS if settings.backend == NFS4 else ()
    return [{"name": unit, "masked": True, "state": "stopped"} for unit in masked]


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


def _quotas(settings: Settings, previous: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Those that are not declared any more are taken back."""
    wanted: dict[str, dict[str, int]] = {
        str(subject["name"]): dict.fromkeys(subject["limits"], 0) for kind, subject in previous if kind == "quota"
    }
    if settings.quotas:
        wanted.setdefault(bare(settings.export), {}).update(settings.quotas)
    return [{"path": path, "limits": limits} for path, limits in wanted.items()]


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
    left: dict[str, list[str]] = {"mount": [], "file": [], "gluster": [], "unit": []}
    for kind, subject in previous:
        if kind in left:
            left[kind].append(str(subject["name"]))
    before = [bare(path) for path in left["mount"]]
    mounts = sorted(set(before) - {one.place for one in declared})
    main = before[0] if before and before[0] in mounts else ""
    unused = [] if declared else list(settings.client_files)
    unused += [] if settings.backend in NFS else [settings.exports]
    kept = _nfs_files(settings, declared)
    unused += [path for path in (settings.nfs_conf, settings.lockd_conf) if path not in kept]
    rpc_units = [one["name"] for one in _rpc_units(settings, declared)]
    unused += [] if settings.quotas else settings.quota_files
    unused += [] if declared and settings.has_quotas else [settings.quota_command]
    return Former(
        main=main,
        mounts=mounts,
        bound=_bound(main, bound, released) if main else [],
        files=[path for path in unused if path in left["file"]],
        volumes=sorted(set(left["gluster"]) - ({settings.volume} if settings.backend == GLUSTERFS else set())),
        units=[unit for unit in RPCBIND_UNITS if unit in left["unit"] and unit not in rpc_units],
        timers=[QUOTA_TIMER] if QUOTA_TIMER in left["unit"] and not settings.quotas else [],
    )


def _bound(main: str, bound: str, released: Sequence[str]) -> list[str]:
    """Of what containers bind, what lies on the share, or is one of the places that show a part of it."""
    found = re.findall(r"[^,\s]+", bound)
    return sorted({path for path in found if path == main or path.startswith(f"{main}/") or path in released})


def _receipt(
    settings: Settings, mounts: Sequence[DeclaredMount], packages: Sequence[str], place: str
) -> dict[str, list[Any]]:
    nfs, gluster = settings.backend in NFS, settings.backend == GLUSTERFS
    return {
        "package": [
            *packages,
            *SERVER_PACKAGES.get(settings.backend, ()),
            *(["quota"] if settings.quotas else ()),
        ],
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
            *_nfs_files(settings, mounts),
            *(settings.quota_files if settings.quotas else ()),
            *([settings.quota_command] if mounts and settings.has_quotas else ()),
        ],
        "unit": [
            *(unit for backend, unit in SERVER_UNITS.items() if backend == settings.backend),
            *(_unit_subject(one) for one in _rpc_units(settings, mounts)),
            *([QUOTA_TIMER, RQUOTAD] if settings.quotas else ()),
        ],
        # The kernel has them until its next boot.
        "sysctl": [
            {"name": name, "keep": True, "expect": {"value": value}}
            for name, value in _lockd_ports(settings, mounts).items()
        ],
        "gluster": [
            {
                "name": settings.volume,
                "keep": True,  # stopped where it is not declared any more; it holds data
                "options": sorted([*_options_of_volume(settings), *PORT_OPTIONS]),
            }
        ]
        if gluster
        else [],
        "export": [{"name": settings.export, "expect": {"nfs3": settings.backend == NFS3}}] if nfs else [],
        "quota": _quota_subject(settings),
        # It stays covered when accounts reach it no more: setuid programs may lie there.
        "cover": [
            {"name": f"/{one['path']}", "keep": True, "expect": {"covered": True}, **({"place": True} if place else {})}
            for one in _cover(settings, place)
        ],
    }


def _quota_subject(settings: Settings) -> list[dict[str, Any]]:
    limits = {uid: limit for uid, limit in settings.quotas.items() if limit}
    expected = {"state": "enforced", **limits}
    return [{"name": bare(settings.export), "limits": sorted(limits), "expect": expected}] if limits else []


def _unit_subject(unit: Mapping[str, Any]) -> Any:
    """What begins with the socket may be anything now."""
    if unit["masked"]:
        return {"name": unit["name"], "running": False, "expect": {"enabled": "masked"}}
    return unit["name"] if "state" in unit else {"name": unit["name"], "running": False}
