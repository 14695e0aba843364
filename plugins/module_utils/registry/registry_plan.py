# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role registry has on a host, which may be the registry, a cache and a node that uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DOCKER = "/etc/docker"
CERTIFICATES = f"{_DOCKER}/certs.d"
LOGINS = "/root/.docker/config.json"
# Beside the unit of the package, which starts before there is an address to listen on, once.
DROP_IN = "/etc/systemd/system/docker-registry.service.d/gpustead.conf"
_ADDRESS = re.compile("[0-9.]+")
_COLLECT = (
    "systemd-run",
    "--unit=gpustead-registry-collect",
    "--collect",
    "--wait",
    "--quiet",
)
_AS_SERVICE = ("--reuid=docker-registry", "--regid=docker-registry", "--init-groups")


@dataclass(frozen=True)
class Settings:
    """What the inventory says of a host, and the role's settings.

    Attributes:
        name, own_address: the host's, in the inventory and as others reach it.
        address: host and port of the registry, or empty.
        is_server, is_cache, is_node: what the host is.
        has_registry: whether the registry is the cluster's own.
        cache_address: of the cache that this node uses, or empty.
        cache_beside_registry: whether that one is on the registry's host.
        certificate: the authority's, or empty where the controller has none yet.
        cached: registries that the caches cache, each with a name, a URL and a port.
        cache_port: of the cache of the cluster's registry.
        previous: what the role left last time, as its receipt says: kind and subject.
    """

    name: str
    own_address: str
    address: str
    is_server: bool
    is_cache: bool
    is_node: bool
    has_registry: bool
    cache_address: str
    cache_beside_registry: bool
    certificate: str
    backend: str
    image: str
    config_dir: str
    storage_path: str
    cache_path: str
    cache_unit: str
    cached: Sequence[Mapping[str, Any]]
    cache_port: Any
    previous: Sequence[tuple[str, Mapping[str, Any]]] = ()


@dataclass(frozen=True)
class Plan:
    """What the role has on the host.

    Attributes:
        is_client: whether Docker on the host uses a registry or caches.
        has_service, has_container: what the registry runs as.
        caches_cluster: whether the host caches the cluster's registry: beside it, all would be there twice.
        group: of the files that the registry reads.
        collect: the command that gives back the space of deleted images.
        alternative_names: of the host's certificate.
        cache_ports: of the caches on the host.
        directories: as module host_files takes them.
        logins: where Docker on the host logs in.
        server_files, cache_files: of the registry and of caches.
        client_files: the authority's certificate, for each place with one of its certificates.
        mirror_files: what names the cache of each registry.
        client_entries: both with their content and directories, and who may read the logins, as host_files takes it.
        files: all of these that the host has.
        former_service, former_container, former_caches: whether it was one and no longer is.
        former_files, former_logins: what it had and is no longer to have.
    """

    is_client: bool
    has_service: bool
    has_container: bool
    caches_cluster: bool
    group: str
    collect: Sequence[str]
    alternative_names: Sequence[str]
    cache_ports: Sequence[Any]
    directories: Sequence[Mapping[str, str]]
    logins: Sequence[str]
    server_files: Sequence[str]
    cache_files: Sequence[str]
    client_files: Sequence[str]
    mirror_files: Sequence[str]
    client_entries: Sequence[Mapping[str, Any]]
    files: Sequence[str]
    former_service: bool
    former_container: bool
    former_caches: bool
    former_files: Sequence[str]
    former_logins: Sequence[str]


def plan(site: Settings) -> Plan:
    """The whole plan."""
    is_client = site.is_node and bool(site.address or site.cache_address)
    has_service = site.is_server and site.backend == "package"
    has_container = site.is_server and site.backend == "container"
    # A cache beside the registry itself would keep all of it twice.
    caches_cluster = site.is_cache and not site.is_server and site.has_registry
    group = "docker-registry" if has_service else "root"
    cached_here = [*site.cached] if site.cache_address and site.certificate else []
    logins = _logins(site) if is_client else []
    trusted = [*(logins if site.has_registry else []), *(f"{site.cache_address}:{one['port']}" for one in cached_here)]
    server_files = [f"{site.config_dir}/{name}" for name in ("config.yml", "registry.key", "registry.crt", "htpasswd")]
    cache_names = ["cache.conf", *(["cache.htpasswd", "cache-ca.crt"] if caches_cluster else [])]
    cache_files = [*(f"{site.config_dir}/{name}" for name in cache_names), site.cache_unit]
    # A registry of somebody else has a certificate that the host trusts, or one of cluster_ca_certificates.
    client_files = [f"{CERTIFICATES}/{place}/ca.crt" for place in trusted] if is_client and site.certificate else []
    # Docker with containerd's image store reads these, for any registry; others read registry-mirrors, for Docker Hub.
    mirror_files = [f"{CERTIFICATES}/{one['name']}/hosts.toml" for one in cached_here]
    files = [
        *(server_files if site.is_server else []),
        *([DROP_IN] if has_service else []),
        *([*server_files[1:3], *cache_files] if site.is_cache else []),
        *client_files,
        *mirror_files,
    ]
    units = _subjects(site, "unit")
    return Plan(
        is_client=is_client,
        has_service=has_service,
        has_container=has_container,
        caches_cluster=caches_cluster,
        group=group,
        collect=_collect(site),
        alternative_names=_alternative_names(site),
        cache_ports=[*(one["port"] for one in site.cached), *([site.cache_port] if caches_cluster else [])],
        directories=_directories(site, group),
        logins=logins,
        server_files=server_files,
        cache_files=cache_files,
        client_files=client_files,
        mirror_files=mirror_files,
        client_entries=_client_entries(site, client_files, dict(zip(mirror_files, cached_here)), logins),
        files=files,
        former_service=not has_service and "docker-registry.service" in units,
        former_container=not has_container and bool(_subjects(site, "container")),
        former_caches=not site.is_cache and "gpustead-registry-cache.service" in units,
        former_files=_former_files(site, files),
        former_logins=_former_logins(site, logins),
    )


def _collect(site: Settings) -> list[str]:
    """The garbage collection as the registry itself would run it, while it is stopped."""
    control, run = {
        "package": (
            "/usr/bin/systemctl {} docker-registry",
            ["/usr/bin/setpriv", *_AS_SERVICE, "/usr/bin/docker-registry"],
        ),
        "container": (
            "/usr/bin/docker {} gpustead-registry",
            ["/usr/bin/docker", "run", "--rm", "--network", "none", "--volumes-from", "gpustead-registry", site.image],
        ),
    }[site.backend]
    properties = [
        f"--property=ExecStartPre={control.format('stop')}",
        f"--property=ExecStopPost={control.format('start')}",
    ]
    return [*_COLLECT, *properties, *run, "garbage-collect", f"{site.config_dir}/config.yml"]


def _alternative_names(site: Settings) -> list[str]:
    """How the host is called as registry and as cache. By its name of the inventory a cache knows the registry: nginx
    compares no addresses."""
    names = [*([site.address.split(":")[0]] if site.is_server else []), *([site.own_address] if site.is_cache else [])]
    kinds = [f"{'IP' if _ADDRESS.fullmatch(name) else 'DNS'}:{name}" for name in names]
    return [*dict.fromkeys([*kinds, f"DNS:{site.name}"])]


def _directories(site: Settings, group: str) -> list[dict[str, str]]:
    found = [(site.config_dir, "root", "0755")]
    if site.is_server:
        found.append((site.storage_path, group, "0750"))
    if site.is_cache:
        found.append((site.cache_path, "www-data", "0700"))
    return [
        {"path": re.sub("(?<=.)/+$", "", path), "state": "directory", "owner": owner, "group": owner, "mode": mode}
        for path, owner, mode in found
    ]


def _client_entries(
    site: Settings, certificates: Sequence[str], mirrors: Mapping[str, Mapping[str, Any]], logins: Sequence[str]
) -> list[dict[str, Any]]:
    files = {
        **dict.fromkeys(certificates, site.certificate),
        **{path: _mirror(site.cache_address, one) for path, one in mirrors.items()},
    }
    # Those above are Docker's own: where they are there, they stay as they are.
    own = [_DOCKER, CERTIFICATES] if files else []
    places = dict.fromkeys(path.rpartition("/")[0] for path in files)
    return [
        *({"path": path, "state": "directory", "mode": "0755", "once": True} for path in own),
        *({"path": path, "state": "directory", "mode": "0755"} for path in places),
        *({"path": path, "mode": "0644", "content": content} for path, content in files.items()),
        # A login leaves the mode of a file that was there.
        *([{"path": LOGINS, "state": "existing", "mode": "0600"}] if logins else []),
    ]


def _mirror(address: str, cached: Mapping[str, Any]) -> str:
    """What tells containerd where a registry is cached."""
    place = f"{address}:{cached['port']}"
    return f"""\
# Written by role registry: change the variable cluster_cached_registries, not this file.
server = "{cached["url"]}"

[host."https://{place}"]
  capabilities = ["pull", "resolve"]
  ca = "{CERTIFICATES}/{place}/ca.crt"
"""


def _logins(site: Settings) -> list[str]:
    cached = site.has_registry and site.cache_address and not site.cache_beside_registry
    return [
        *([site.address] if site.address else []),
        *([f"{site.cache_address}:{site.cache_port}"] if cached else []),
    ]


def _subjects(site: Settings, *kinds: str) -> list[str]:
    return [subject["name"] for kind, subject in site.previous if kind in kinds]


def _former_files(site: Settings, files: Sequence[str]) -> list[str]:
    """Directories stay, as images do."""
    ours = re.compile(
        f"{re.escape(site.cache_unit)}|{re.escape(DROP_IN)}|{re.escape(CERTIFICATES)}/[^/]+/(ca\\.crt|hosts\\.toml)|{re.escape(site.config_dir)}/.+"
    )
    return sorted({path for path in _subjects(site, "file", "certificate") if ours.fullmatch(path)} - {*files})


def _former_logins(site: Settings, logins: Sequence[str]) -> list[str]:
    before = {keys[-1] for kind, subject in site.previous if kind == "json_keys" for keys in subject["keys"]}
    return sorted(before - {*logins})
