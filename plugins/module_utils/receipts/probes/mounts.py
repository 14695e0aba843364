# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mounts, what lies beneath them, and what is served: never through the mounted path itself, which may hang."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.nas_ports import is_version_3
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import (
    AUTOFS,
    HARMLESS,
    Mounted,
    unescape,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
    mountpoints,
    path_of,
)

_IDLE = "x-systemd.idle-timeout="
_NOT_THERE = 44  # no status of the tools that run before it
_BARE = f'[ -e "$1" ] || exit {_NOT_THERE}; stat -c %a -- "$1" || exit; lsattr -d -- "$1" 2>/dev/null || :'


def _mount(subject: Subject, host: Host) -> Value:
    """The topmost mount there, and the line of fstab."""
    path = path_of(subject)
    mount = host.once("mountpoints", mountpoints).get(path)
    lines = [line.split() for line in (host.text("/etc/fstab") or "").splitlines() if not line.lstrip().startswith("#")]
    entry = next((line for line in lines if len(line) > 1 and unescape(line[1]).rstrip("/") == path), None)
    if not entry and mount is None:
        return None
    fields: list[Any] = [*entry, None, None][:4] if entry else [None] * 4
    if mount and mount.fstype == AUTOFS and _IDLE in str(fields[3]):
        mount = _awaited(mount, entry or [])
    return {
        "source": _source(mount.source, mount.fstype) if mount else None,
        "fstype": mount.fstype if mount else None,
        "read_only": mount.is_read_only if mount else None,
        # An automount that waits holds nothing.
        **{flag: mount and (flag in mount.options or mount.fstype == AUTOFS) for flag in HARMLESS},
        "fstab_source": fields[0],
        "fstab_fstype": fields[2],
        "fstab_options": fields[3],
    }


def _awaited(automount: Mounted, entry: Sequence[str]) -> Mounted:
    """What an automount will mount that nobody has used for long; a look here must not try whether it can."""
    source, _path, fstype, options = entry[:4]
    kinds = {"nfs": "nfs" if is_version_3(options) else "nfs4", "glusterfs": "fuse.glusterfs"}
    return automount._replace(
        source=unescape(source), fstype=kinds.get(fstype, fstype), options=tuple(options.split(",")), of_all=()
    )


def _source(listed: str, fstype: str) -> str:
    """Ceph's monitors are listed in any order, another one after a boot."""
    servers, slash, path = listed.partition(":/")
    return f"{','.join(sorted(servers.split(',')))}{slash}{path}" if fstype == "ceph" else listed


def _bind(subject: Subject, host: Host) -> Value:
    """What a bind of role binds shows: which directory of which file system, and how. The directory is not touched."""
    mounted = host.once("mountpoints", mountpoints)
    mount = mounted.get(path_of(subject))
    if mount is None:
        return None
    share = mounted.get(str(subject.get("root", "")).rstrip("/"))
    return {
        "source": _source(mount.source, mount.fstype),
        "fstype": mount.fstype,
        "root": mount.subtree,
        "read_only": "ro" in mount.options,
        **{flag: flag in mount.options for flag in HARMLESS},
        "propagation": mount.propagation,
        # Else the share was mounted anew, and this is still the one before.
        **({"current": share is not None and _shows(share, mount)} if "root" in subject else {}),
        **({"covered": _is_harmless(subject["cover"], mounted)} if "cover" in subject else {}),
    }


def _shows(share: Mounted, mount: Mounted) -> bool:
    """Whether a bind is of the share as it is mounted now. While an automount waits nothing newer is."""
    return share.device == mount.device or share.fstype == AUTOFS


def _is_harmless(path: str, mounted: Mapping[str, Mounted]) -> bool:
    """Whether setuid programs and devices do nothing at a path of the host, by the mount that it lies in."""
    steps = path.rstrip("/").split("/")
    at = ("/".join(steps[:count]) or "/" for count in range(len(steps), 0, -1))
    mount = next((mounted[step] for step in at if step in mounted), None)
    return mount is not None and mount.is_harmless


def _cover(subject: Subject, host: Host) -> Value:
    """Of a place that the host's accounts reach and containers write; one that stands for a share is a mount itself."""
    path, mounted = path_of(subject), host.once("mountpoints", mountpoints)
    return {"covered": _is_harmless(path, mounted) and (path in mounted or not subject.get("place"))}


def _mountpoint(subject: Subject, host: Host) -> Value:
    """Whether the bare directory beneath refuses writes."""
    # Takes some 3 kB of the bundle and the import of dataclasses, but the way beneath a mount stands in one place.
    from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mountpoint import (  # noqa: PLC0415
        Bare,
        Mountpoint,
    )

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return host.run(argv, 10)

    path = path_of(subject)
    if not os.path.isdir(host.path(posixpath.dirname(path))):
        return None
    point = Mountpoint(host.path(path), run)
    code, out, err = point.beneath("sh", "-c", _BARE, "sh", point.name)
    if code == _NOT_THERE:
        return None
    if code:
        raise Unreadable(f"beneath {path}: {' '.join(err.split())[:200] or f'ended with {code}'}")
    mode, _separator, attributes = out.partition("\n")
    return {"protected": Bare(mode, "i" in attributes.partition(" ")[0]).protected}


def _gluster(subject: Subject, host: Host) -> Value:
    """Whether the volume is started, the options that are asked for, and which bricks of this host live."""
    name = subject["name"]
    if "/" in name:
        raise Unreadable(f"{name!r} is not the name of a volume")
    text = host.text(f"/var/lib/glusterd/vols/{name}/info")
    if text is None:
        return None
    info = dict(line.partition("=")[::2] for line in text.splitlines())
    directory, bricks = f"/run/gluster/vols/{name}", {}
    try:
        entries = sorted(os.listdir(host.path(directory)))
    except FileNotFoundError:
        entries = []
    for entry in entries:
        if entry.endswith(".pid"):
            pid = (host.text(f"{directory}/{entry}") or "").strip()
            alive = pid.isdecimal() and (host.text(f"/proc/{pid}/comm") or "").strip() == "glusterfsd"
            bricks[entry[:-4]] = alive
    options = {key: info.get(key) for key in subject.get("options") or ()}
    return {"started": info.get("status") == "1", "bricks": bricks, "options": options}


def _export(subject: Subject, host: Host) -> Value:
    """To whom, and whether by NFS 3, too."""
    lines = [line.split(None, 1) for line in (host.text("/var/lib/nfs/etab") or "").splitlines()]
    clients = sorted(line[1].strip() for line in lines if len(line) == 2 and unescape(line[0]) == path_of(subject))
    if not clients:
        return None
    versions = (host.text("/proc/fs/nfsd/versions") or "").split()
    return {"clients": clients, "nfs3": "+3" in versions}


def _quota(subject: Subject, host: Host) -> Value:
    """The limits of the accounts of `limits` on the file system of a directory, in KiB, and whether they hold."""
    # As above: no host without quotas needs it.
    from ansible_collections.gpustead.cluster.plugins.module_utils.nas import quota_report  # noqa: PLC0415

    path = host.path(path_of(subject))
    if not os.path.isdir(path):
        return None
    place = quota_report.place_of(path)
    _code, out, _err = host.run(quota_report.state_command(place), 10)
    found = quota_report.parse(host.must(quota_report.command(place), 30))
    limits = {uid: found[int(uid)].hard if int(uid) in found else 0 for uid in subject["limits"]}
    return {"state": quota_report.state(out), **limits} if any(limits.values()) else None


mount = each(_mount)
bind = each(_bind)
cover = each(_cover)
mountpoint = each(_mountpoint)
gluster = each(_gluster)
export = each(_export)
quota = each(_quota)
