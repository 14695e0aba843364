# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of daemon.json: what becomes of it, which settings dockerd refuses, and what it needs to take them over."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import has_credentials
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import log_options, unfit_settings
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.daemon_json_editor import (
    parse,
    render,
    same,
    where,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.dockerd import Flag, shown
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

DAEMON_JSON = "/etc/docker/daemon.json"  # that the daemon itself reads

# What dockerd takes over on SIGHUP (https://docs.docker.com/reference/cli/dockerd/#configuration-reload-behavior).
RELOADED = frozenset(
    {
        "allow-nondistributable-artifacts",
        "authorization-plugins",
        "debug",
        "default-runtime",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
# Of these, the ones that go back to their default when they are gone: the others keep their last value until a
# restart (moby, daemon/reload.go).
RESET = frozenset({"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"})
# A reload takes over the object "features" (moby, daemon/reload.go), but only these are looked at again afterwards.
RELOADED_FEATURES = frozenset({"buildkit"})

# What Docker itself holds to be insecure.
OWN_INSECURE = {"127.0.0.0/8", "::1/128"}

# Keys that dockerd no longer knows: it does not start with them.
LEGACY = {
    "graph": 'Rename it to "data-root"',
    "cluster-store": "Remove it: Docker 23 dropped external stores for overlay networks",
    "cluster-store-opts": "Remove it: Docker 23 dropped external stores for overlay networks",
    "cluster-advertise": "Remove it: Docker 23 dropped external stores for overlay networks",
    "oom-score-adjust": "Set OOMScoreAdjust= in docker.service (systemctl edit docker) instead: Docker 25 dropped it",
    "api-cors-header": "Remove it: Docker 28 dropped it",
    "disable-legacy-registry": "Remove it: Docker no longer speaks to version 1 registries",
}
# https://docs.docker.com/engine/deprecated/ and the release notes of 24.0, 25.0 and 28.0.
_FORMER_DRIVERS = {"storage-driver": ("aufs", "overlay", "devicemapper"), "log-driver": ("logentries",)}
_FORMER_OPTIONS = ("overlay2.override_kernel_check", "overlay.override_kernel_check")
_SWITCHES = (
    *("debug", "experimental", "icc", "init", "ip-forward", "ip-masq", "ip6tables", "iptables", "ipv6", "live-restore"),
    *("no-new-privileges", "raw-logs", "selinux-enabled", "tls", "tlsverify", "userland-proxy"),
)


@dataclass(frozen=True)
class Plan:
    """What would be written, and what dockerd must do to notice."""

    before: str
    after: str
    changed_keys: tuple[str, ...]
    reload_required: bool
    restart_required: bool
    wanted: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def changed(self) -> bool:
        return self.before != self.after


def merge(current: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings put into what is there: objects key by key, everything else (lists too) replaced."""
    merged = dict(current)
    for key, value in settings.items():
        there = merged.get(key)
        merged[key] = merge(there if isinstance(there, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _reloads(key: str, before: Any, after: Any, gone: bool) -> bool:
    if key == "features":
        old, new = (value if isinstance(value, dict) else {} for value in (before, after))
        return all(name in RELOADED_FEATURES for name in {*old, *new} if old.get(name) != new.get(name))
    return key in (RESET if gone else RELOADED)


def _without(key: str, value: Any, absent: Sequence[str]) -> Any:
    """An object without its keys that are named in `absent` as object.key."""
    gone = {name.partition(".")[2] for name in absent if name.startswith(f"{key}.")}
    return {name: one for name, one in value.items() if name not in gone} if gone and isinstance(value, dict) else value


def plan(text: str, settings: Mapping[str, Any], absent: Sequence[str], path: str) -> Plan:
    """What becomes of the file."""
    both = sorted(set(settings) & set(absent))
    if both:
        raise GpusteadError(
            f"key {both[0]!r} is in settings and in absent", "it in one of them", "Take it out of the other."
        )
    node = parse(text, path)
    current: dict[str, Any] = node.value
    wanted = _wanted(current, settings, absent)
    for key in wanted:
        if key in LEGACY:
            raise GpusteadError(
                f"{path} {where(text, node, key)}key {key!r}",
                "no key that dockerd no longer knows",
                f"{LEGACY[key]}; Docker was left as it is.",
            )
    check_settings(wanted, path, lambda key: where(text, node, key.partition(".")[0]))
    names = [*current, *(key for key in wanted if key not in current)]
    changed = [
        key for key in names if (key in current) != (key in wanted) or not same(current.get(key), wanted.get(key))
    ]
    reloads = [key for key in changed if _reloads(key, current.get(key), wanted.get(key), key not in wanted)]
    return Plan(
        before=text,
        after=render(text, node, wanted) if changed else text,
        changed_keys=tuple(changed),
        reload_required=bool(reloads),
        restart_required=len(reloads) < len(changed),
        wanted=wanted,
    )


def _wanted(current: Mapping[str, Any], settings: Mapping[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    """The file with the settings and without what must not be there; a new log driver begins without options."""
    there = {key: _without(key, value, absent) for key, value in current.items() if key not in absent}
    driver = log_options.driver_of({**there, **settings})
    return merge(log_options.kept(there, driver), settings)


def check_settings(settings: Mapping[str, Any], path: str, place: Callable[[str], str] = lambda key: "") -> None:
    """Refuse what `problems` finds.

    Raises:
        GpusteadError: the first of them.
    """
    for problem in problems(settings, path, place):
        raise problem


def problems(
    settings: Mapping[str, Any], path: str, place: Callable[[str], str] = lambda key: ""
) -> Iterator[GpusteadError]:
    """What dockerd does not start with and `dockerd --validate` lets pass, and what no cluster runs with.

    Args:
        settings: all that is to be in daemon.json.
        path: what they are called in the message.
        place: where a key stands there, to be put before it.
    """
    yield from log_options.problems(settings)
    yield from _former(settings, path, place)
    for key in _SWITCHES:
        if isinstance(settings.get(key), str):
            yield GpusteadError(
                f'{path} {place(key)}{key}: "{settings[key]}"',
                "true or false, without quotes: dockerd does not start with a string there",
                "Take the quotes away; Docker was left as it is.",
            )
    for mirror in map(str, settings.get("registry-mirrors") or ()):
        if has_credentials(mirror):
            yield GpusteadError(
                "a registry mirror has a user or password in its URL (not shown)",
                "mirrors without: dockerd does not start with them",
                "Let the mirror admit the hosts by their addresses; Docker was left as it is.",
            )
        elif not mirror.startswith(("http://", "https://")):
            yield GpusteadError(
                f"registry mirror {re.sub('.*@', '***@', mirror)!r}",
                "one that begins with https:// or http://: dockerd does not start with others",
                "Write the whole URL; Docker was left as it is.",
            )
    for unfit in unfit_settings.refused(settings):
        yield GpusteadError(f"{path} {place(unfit.key)}{unfit}", *_fit(unfit))


def _former(settings: Mapping[str, Any], path: str, place: Callable[[str], str]) -> Iterator[GpusteadError]:
    """What Docker had formerly."""
    for key, drivers in _FORMER_DRIVERS.items():
        if settings.get(key) in drivers:
            yield GpusteadError(
                f"{path} {place(key)}{key}: {settings[key]}",
                "a driver that Docker still has: from version 25 on it does not start with this one",
                f"Take it out (docker_daemon_absent: [{key}]), or choose another; Docker was left as it is.",
            )
    options = settings.get("storage-opts")
    gone = [str(one) for one in options if str(one).startswith(_FORMER_OPTIONS)] if isinstance(options, list) else []
    if gone:
        yield GpusteadError(
            f"{path} {place('storage-opts')}storage-opts has {', '.join(gone)}",
            "options that Docker still has: from version 24 on it does not start with this one",
            "Take it out, or all of them by docker_daemon_absent: [storage-opts]; Docker was left as it is.",
        )


def _fit(unfit: unfit_settings.Unfit) -> tuple[str, str]:
    """What is expected instead, and what to do."""
    top = unfit.key.partition(".")[0]
    return (
        f"it not to be there: {unfit.why}",
        f"Take it out: of docker_daemon_settings where it stands there, else by docker_daemon_absent: [{top}]; "
        "Docker was left as it is.",
    )


def check_host(settings: Mapping[str, Any], given: Sequence[Flag], swarm: str, forwards: bool, path: str) -> None:
    """Refuse what does not go together with the host.

    Args:
        settings: all that is to be in daemon.json.
        given: options that dockerd gets besides.
        swarm: the host's state in a swarm of Docker's; empty where it is in none.
        forwards: whether the kernel forwards packets now.
        path: of daemon.json.

    Raises:
        GpusteadError: the first of them.
    """
    if swarm and settings.get("live-restore"):
        raise GpusteadError(
            f"the host is in a swarm of Docker's ({swarm}), and {path} is to hold live-restore: true",
            "one of the two: dockerd does not start with both",
            "Set docker_live_restore: false for this host (containers then stop with Docker), or let it leave the "
            "swarm (docker swarm leave); Docker was left as it is.",
        )
    for unfit in unfit_settings.refused(settings, forwards):
        raise GpusteadError(f"{path}: {unfit}", *_fit(unfit))
    for flag, unfit in unfit_settings.of_flags(given, forwards):
        raise GpusteadError(
            f"{flag.path} starts dockerd with {shown(flag.text)!r}",
            f"it without: {unfit.why}",
            f"Remove the option from {flag.path} and run systemctl daemon-reload; Docker was left as it is.",
        )


def check_flags(keys: Sequence[str], given: Sequence[Flag], path: str) -> None:
    """Refuse a key that dockerd also gets as an option: it would not start, or does not start again."""
    for flag in given:
        if flag.key in keys:
            raise GpusteadError(
                f"{flag.path} starts dockerd with {shown(flag.text)!r}, and {path} is to hold {flag.key!r}",
                "it in one of the two: dockerd does not start with both",
                f"Remove the option from {flag.path} (systemctl edit docker) and run systemctl daemon-reload, or take "
                f"the key out: of docker_daemon_settings, else by docker_daemon_absent: [{flag.key}].",
            )


def running(info: Mapping[str, Any]) -> dict[str, Any]:
    """What `docker info` tells of the settings with which the daemon runs, in the words of daemon.json."""
    registries = info.get("RegistryConfig") or {}
    insecure = {name for name, index in (registries.get("IndexConfigs") or {}).items() if not index.get("Secure", True)}
    insecure |= set(registries.get("InsecureRegistryCIDRs") or []) - OWN_INSECURE
    return {
        "insecure-registries": sorted(insecure),
        "live-restore": info.get("LiveRestoreEnabled"),
        "log-driver": info.get("LoggingDriver"),
        "registry-mirrors": sorted(registries.get("Mirrors") or []),
    }


def desired(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as `docker info` would give it with these settings."""
    return {
        "insecure-registries": sorted({_registry(name) for name in settings.get("insecure-registries") or []}),
        "live-restore": settings.get("live-restore", False),
        "log-driver": settings.get("log-driver", "json-file"),
        "registry-mirrors": sorted({f"{mirror.rstrip('/')}/" for mirror in settings.get("registry-mirrors") or []}),
    }


def _registry(name: str) -> str:
    name = name.rpartition("://")[2]
    try:
        return str(ipaddress.ip_network(name, strict=False)) if "/" in name else name
    except ValueError:
        return name


def not_taken_over(plan: Plan, info: Mapping[str, Any], given: Sequence[Flag]) -> tuple[str, ...]:
    """The keys with which Docker does not run as its file says, although the file needs no change in them.

    Somebody put the file back, or a run was killed before Docker read it.
    """
    if not info:
        return ()
    there, wanted = running(info), desired(plan.wanted)
    elsewhere = {*plan.changed_keys, *(flag.key for flag in given)}
    return tuple(key for key in wanted if there[key] != wanted[key] and key not in elsewhere)


def reloadable(plan: Plan, keys: Sequence[str]) -> tuple[str, ...]:
    """Those that a reload takes over. It keeps what was set before of a key that the file does not have."""
    return tuple(key for key in keys if key in RELOADED and key in plan.wanted)
