# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is mounted on the nodes, and what of their paths the containers see."""

from __future__ import annotations

import re

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import DEFAULTS
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import HostVariables, Site
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import did_you_mean
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import HostLayout as MountSite
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import is_read_only, refusal

# Where no share is mounted: what the system has there would be hidden. Nor below the first.
SYSTEM_TREES = frozenset(
    ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "tmp", "usr")
)
SYSTEM_DIRECTORIES = frozenset((*SYSTEM_TREES, "home", "lost+found", "media", "mnt", "opt", "srv", "var"))
# What is mounted of each kind: a server, by name or address, and what it exports.
_SERVER = r"(\[[0-9A-Fa-f:.%\w]+\]|[^:/\s\[\]]+):"
_SOURCES = {"nfs": rf"{_SERVER}/(?!/)\S*\Z", "nfs4": rf"{_SERVER}/(?!/)\S*\Z", "glusterfs": rf"{_SERVER}\S+\Z"}
# Kinds of file systems that are shares; there are others, but nothing that looks like these is one.
_KINDS = ("beegfs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs")


def check_nas_path(host: HostVariables) -> None:
    reason = bad_mountpoint(host.get("cluster_nas_path", str, DEFAULTS["cluster_nas_path"]))
    if reason:
        host.refuse("cluster_nas_path", reason, "Write it as /mnt/nas.")


def check_nas_source(host: HostVariables, site: Site) -> None:
    nodes, servers = site.members("gpu_nodes"), site.members("nas_server")
    if not host.get("nas_source", str, "").strip() and host.ok("nas_source") and (len(nodes) > 1 or servers):
        why = f"{servers[0]} serves the share" if servers else f"{len(nodes)} nodes have no other place in common"
        remedy = "Say what to mount, such as nas.example.org:/export/cluster."
        if not servers:
            remedy += " One of the hosts can serve it: put it into group nas_server. A single node needs none."
        host.refuse("nas_source", f"is empty, and {why}", remedy)
    fstype = host.get("nas_fstype", str, DEFAULTS["nas_fstype"])
    sources = [("nas_source", "", host.get("nas_source", str, ""), fstype)]
    for entry in host.dicts("nas_extra_mounts"):
        kind = str(entry.get("fstype") or "")
        sources.append(("nas_extra_mounts", f"of {entry.get('path')} ", str(entry.get("source") or ""), kind))
    for name, whose, source, kind in sources:
        meant = did_you_mean(kind, _KINDS) if kind and kind not in _KINDS else ""
        if meant:
            where = "nas_fstype" if name == "nas_source" else name
            host.refuse(where, f"{kind!r} is no kind of file system{' ' + whose.strip() if whose else ''}", meant)
            continue
        form = _SOURCES.get(kind)
        if source.strip() and form and not re.match(form, source):
            remedy = "Write server and path, such as nas.example.org:/export/cluster, without blanks."
            host.refuse(name, f"the source {whose}is {source!r}, which names no server of {kind}", remedy)


def check_mounts(host: HostVariables) -> None:
    for name, keys in (("nas_extra_mounts", ("path",)), ("workspace_mounts", ("host", "path"))):
        for entry in host.dicts(name):
            for key in keys:
                path = entry.get(key)
                absolute = r"/" if key == "host" else r"/[^/]"  # what else is wrong with it is said below
                if not isinstance(path, str) or not re.match(absolute, path):
                    host.refuse(name, f"{key} is {path!r}", "Give each entry absolute paths, such as /mnt/data.")
    site = MountSite(nas=host.get("cluster_nas_path", str, DEFAULTS["cluster_nas_path"]))
    for entry in host.dicts("workspace_mounts"):
        path = entry.get("host")
        if isinstance(path, str) and path.startswith("/"):
            what, remedy = refusal(path, is_read_only(entry), site)
            if what:
                host.refuse("workspace_mounts", what, remedy)
    for entry in host.dicts("nas_extra_mounts"):
        reason = bad_mountpoint(str(entry.get("path") or ""))
        if str(entry.get("path")).rstrip("/") == "/home":
            host.refuse(
                "nas_extra_mounts",
                "a share on '/home' would hide the homes of the hosts, with the keys by which Ansible logs in",
                "Mount it on /mnt/home, say, and give the accounts homes in there (home: /mnt/home/ada), which with"
                " root_squash are made on the server; or mount it on the hosts before, by their own /etc/fstab.",
            )
        elif reason and isinstance(entry.get("path"), str) and re.match(r"/[^/]", entry["path"]):
            host.refuse("nas_extra_mounts", reason, "Write it as /mnt/data.")
        if not entry.get("source"):
            host.refuse("nas_extra_mounts", f"the source of {entry.get('path')} is empty", "Say what to mount there.")


def check_quota(host: HostVariables, site: Site) -> None:
    quota = host.values.get("nas_quota")
    if quota not in (None, "") and host.ok("nas_quota") and not site.members("nas_server"):
        what = f"is {quota!r}, and no host is in nas_server, where it would be set"
        alone = len(site.members("gpu_nodes")) == 1 and not host.get("nas_source", str, "").strip()
        where = "the disk of the node" if alone else "your NAS itself"
        host.refuse("nas_quota", what, f"Set quotas on {where}, and take it out.")


def bad_mountpoint(path: str) -> str:
    """Why nothing can be mounted on a path; empty if something can."""
    parts = path.split("/")[1:]
    if not path.startswith("/") or path.startswith("//") or not any(parts):
        return f"{path!r} is not an absolute path below /"
    if not re.match(r"[\w@+./-]+\Z", path, re.ASCII):
        return f"{path!r} has a blank or another character that mount and Docker do not take"
    if {"", ".", ".."} & set(parts[:-1] if parts[-1] == "" else parts):
        return f"{path!r} is not written without '.', '..' and doubled slashes"
    names = [part for part in parts if part]
    if (len(names) == 1 and names[0] in SYSTEM_DIRECTORIES) or names[0] in SYSTEM_TREES:
        return f"{path!r} is a directory of the system"
    if names[:2] in (["var", "lib"], ["var", "log"], ["var", "run"], ["var", "tmp"]) and len(names) < 4:
        return f"{path!r} is a directory of the system"
    return ""
