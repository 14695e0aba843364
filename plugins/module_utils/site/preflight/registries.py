# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registry of the cluster, and the caches of those outside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import masked
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import (
    CACHED_REGISTRIES,
    REGISTRY,
    REGISTRY_CACHE,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    Site,
    no_host,
    whole_number,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?\Z")


def check_registry(host: HostVariables, site: Site) -> None:
    registry = host.get("cluster_registry", str, "")
    # The only node builds its image where it runs.
    if not site.members("registry") and not registry and len(site.members("gpu_nodes")) > 1:
        host.problems.append(no_host("registry"))
    if registry and not re.match(r"[^:/\s]+:\d+\Z", registry):
        shown = re.sub(r".*@", "***@", registry, flags=re.DOTALL)  # a password may stand there
        host.refuse(
            "cluster_registry",
            f"{masked(repr(shown))} is not host:port",
            "Write it as registry.example.org:5000; user and password are registry_username and registry_password.",
        )


def _cached(host: HostVariables) -> list[Mapping[str, Any]]:
    where = "cluster_cached_registries"
    return host.dicts(where) if where in host.values else list(CACHED_REGISTRIES)


def cache_ports(host: HostVariables) -> list[tuple[str, Any, str]]:
    """Of each cache on the host the variable, the port and what it is for."""
    ports = [
        ("cluster_cached_registries", entry.get("port"), f"the cache of {entry.get('name')}") for entry in _cached(host)
    ]
    own = host.values.get(REGISTRY_CACHE.variable, REGISTRY_CACHE.port)
    return [*ports, (REGISTRY_CACHE.variable, own, REGISTRY_CACHE.title)]


def check_caches(host: HostVariables, site: Site) -> None:
    def refuse(what: str, remedy: str, where: str = "cluster_cached_registries") -> None:
        host.refuse(where, what, remedy)

    names = Counter(str(entry.get("name")) for entry in _cached(host))
    for entry in _cached(host):
        name, url = entry.get("name"), entry.get("url")
        if not isinstance(name, str) or not _NAME.match(name):
            refuse(f"{name!r} cannot be the name of a registry", "Write it as in the names of images, such as nvcr.io.")
        reason = _bad_url(url)
        if reason:
            refuse(f"url of {name} is {masked(repr(url))}, {reason}", "Write it as https://registry.example.org.")
    for name, count in names.items():
        if count > 1:
            refuse(f"{name} is declared {count} times", "Keep one of them.")
    if host.name not in site.members("registry_caches"):
        return
    proxies = [
        name for name in host.get("cluster_proxy_env", dict, {}) if name.lower() in ("http_proxy", "https_proxy")
    ]
    if proxies and _cached(host):
        refuse(
            f"nginx would cache them and goes through no proxy, but cluster_proxy_env has {' and '.join(proxies)}",
            "Give the hosts of registry_caches a direct way out and cluster_proxy_env: {}, or cache none: [].",
        )
    users: dict[int, list[str]] = {REGISTRY.port: [REGISTRY.title]} if host.name in site.members("registry") else {}
    for where, value, user in cache_ports(host):
        port = whole_number(value)
        if port is None or not 0 < port < 65536:
            refuse(f"{value!r}, the port of {user}, is no port", "Choose one from 1 to 65535.", where)
        else:
            users.setdefault(port, []).append(user)
    for port, owners in users.items():
        if len(owners) > 1:
            refuse(f"port {port} is given twice, to {' and '.join(owners)}", "Give each its own.")


def _bad_url(url: Any) -> str:
    """Why nginx cannot go there."""
    if not isinstance(url, str) or not re.match(r"https?://[A-Za-z0-9.:\[\]-]+\Z", url):
        return "not http:// or https:// and a host"
    if url.startswith("https:") and re.match(r"https://(\[|[0-9.]+(:|\Z))", url):
        return "an address, which nginx does not compare with certificates"
    return ""
