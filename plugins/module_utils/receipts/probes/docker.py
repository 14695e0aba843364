# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Docker as it runs: asked through its socket with a client of our own, and never started by the question."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import docker_bridges
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
)

_TIMEOUT = 10
_LONGEST = 32 << 20  # bytes; a container is some 20 KiB of it, with what its health checks printed
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*\Z")
_OWN = {"127.0.0.0/8", "::1/128"}  # what Docker itself holds to be insecure
_LABEL = "com.docker.compose."
_ORDINAL = re.compile("[0-9]{1,9}")
# What depends on who created the container and with what, not on what was wanted.
_PASSING = {"AttachStdin", "AttachStdout", "AttachStderr", "ConsoleSize", "ContainerIDFile", "Image"}
_PASSING |= {_LABEL + name for name in ("container-number", "image", "replace", "version")}
_ORDERED = {"Cmd", "Dns", "DnsSearch", "Entrypoint", "OnBuild", "Shell", "Test"}  # Compose shuffles the other lists
_DEFAULTS = {"MaskedPaths", "ReadonlyPaths"}  # lists that grow with Docker's versions


class _Silent(Unreadable):
    pass


def _runs(host: Host) -> bool:
    """Not asked of the socket: where systemd holds it, to connect would start a daemon."""
    pid = (host.text("/run/docker.pid") or "").strip()
    pids = [pid] if pid.isdecimal() else [entry for entry in os.listdir(host.path("/proc")) if entry.isdecimal()]
    return any(_is_daemon(number, host) for number in pids)


def _is_daemon(number: str, host: Host) -> bool:
    """Root's: an account may run one of its own (rootless), or call any program so."""
    try:
        status = host.text(f"/proc/{number}/status") or ""
    except OSError:  # it has ended
        return False
    return status.startswith("Name:\tdockerd\n") and "\nUid:\t0\t" in status


def runs(host: Host) -> bool:
    """Whether there is a daemon."""
    return host.once("dockerd", _runs)


def _get(path: str, host: Host) -> Any:
    """The JSON of an answer; None for 404. With HTTP/1.0 it is never chunked and ends with the connection."""
    if not runs(host):
        raise _Silent("Docker does not run")
    deadline = time.monotonic() + _TIMEOUT
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_TIMEOUT)
            link.connect(host.docker)
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\nConnection: close\r\n\r\n".encode())
            while True:
                link.settimeout(max(0.001, deadline - time.monotonic()))
                part = link.recv(1 << 16)
                if not part:
                    break
                data += part
                if len(data) > _LONGEST:
                    raise Unreadable(f"Docker's answer to {path.partition('?')[0]} is longer than {_LONGEST >> 20} MiB")
    except OSError as error:
        raise _Silent(f"Docker does not answer: {error.strerror or error}") from None
    head, _separator, body = data.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status == [b"404"]:
        return None
    try:
        if status == [b"200"]:
            return json.loads(body)
    except ValueError:
        pass
    raise Unreadable(
        f"Docker answered {(status or [b'nothing'])[0].decode(errors='replace')} to {path.partition('?')[0]}"
    )


def _daemon(subject: Subject, host: Host) -> Value:
    """The settings with which the daemon runs, whatever its file says by now."""
    try:
        info = _get("/info", host)
    except _Silent:
        return {"answers": False}
    registries = info.get("RegistryConfig") or {}
    named = {name for name, index in (registries.get("IndexConfigs") or {}).items() if not index.get("Secure", True)}
    return {
        "answers": True,
        "logging_driver": info.get("LoggingDriver"),
        "live_restore": info.get("LiveRestoreEnabled"),
        "mirrors": sorted(registries.get("Mirrors") or []),
        "insecure": sorted(named | (set(registries.get("InsecureRegistryCIDRs") or []) - _OWN)),
        **{key: info.get(key) for key in subject.get("keys") or ()},
    }


def _image(subject: Subject, host: Host) -> Value:
    if not _REFERENCE.match(subject["name"]):
        raise Unreadable(f"{subject['name']!r} is not the name of an image")
    found = _get(f"/images/{subject['name']}/json", host)
    return {"id": found["Id"]} if found else None


class ComposeContainers(NamedTuple):
    """The containers of Compose services, by service (`project/service`).

    Attributes:
        services: their ids, by their numbers.
        pretenders: names of others with the labels of a service, which their image has given them.
    """

    services: dict[str, list[str]]
    pretenders: dict[str, list[str]]


def compose_containers(host: Host) -> ComposeContainers:
    """Those of each Compose service. What was started beside a service with `run` is not one of them.

    By their labels, as Compose finds them; but a container has those of its image, too
    (https://github.com/moby/moby/issues/36321). No image decides its name.
    """
    services: dict[str, list[tuple[int, str]]] = {}
    pretenders: dict[str, list[str]] = {}
    for entry in _get("/containers/json?all=1", host):
        labels = entry.get("Labels") or {}
        if labels.get(_LABEL + "oneoff", "False") == "False":
            project, name = str(labels.get(_LABEL + "project")), str(labels.get(_LABEL + "service"))
            service, number = f"{project}/{name}", str(labels.get(_LABEL + "container-number"))
            # One that is on its way out has none.
            named = [one.lstrip("/") for one in entry.get("Names") or ()]
            if any(map(_named_by_compose(project, name).fullmatch, named)):
                ordinal = int(number) if _ORDINAL.fullmatch(number) else 0
                services.setdefault(service, []).append((ordinal, entry["Id"]))
            elif named:
                pretenders.setdefault(service, []).append(min(named))
    return ComposeContainers(
        {service: [identity for _first, identity in sorted(found)] for service, found in services.items()}, pretenders
    )


def _named_by_compose(project: str, service: str) -> re.Pattern[str]:
    """The names that Compose gives; those with an id in front while it exchanges a container. Where the file names it,
    as of the mesh, it has the name of its project."""
    return re.compile(f"([0-9a-f]{{12}}_)?{re.escape(project)}([-_]{re.escape(service)}[-_][0-9]+)?")


def components(host: Host) -> list[dict[str, Any]]:
    """The programs that Docker consists of, each with Name and Version."""
    return list((_get("/version", host) or {}).get("Components") or ())


def bridges(host: Host) -> list[str]:
    """The network bridges of Docker's networks."""
    return docker_bridges.names(_get("/networks", host) or ())


def inspect(container: str, host: Host) -> dict[str, Any] | None:
    """What Docker says of a container; None: it went away meanwhile."""
    found: dict[str, Any] | None = _get(f"/containers/{container}/json", host)
    return found


def container(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    """The containers of a Compose service."""
    services = compose_containers(host).services

    def one(subject: Subject, host: Host) -> Value:
        found = services.get(subject["name"], [])
        inspected = inspect(found[0], host) if found else None
        return {**_container(inspected, host), "count": len(found)} if inspected else None

    return each(one)(subjects, host)


def _container(inspected: dict[str, Any], host: Host) -> dict[str, Any]:
    config, state = inspected["Config"], inspected["State"]
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    wanted = {"Config": dict(config), "HostConfig": inspected["HostConfig"], "Networks": sorted(networks)}
    if config.get("Hostname") == inspected["Id"][:12]:
        del wanted["Config"]["Hostname"]
    settings = json.dumps(canonical(wanted), sort_keys=True)
    health = (state.get("Health") or {}).get("Status") or "none"
    return {
        "image": inspected["Image"],
        "image_name": config.get("Image"),
        "config_hash": (config.get("Labels") or {}).get(_LABEL + "config-hash"),
        "state": state["Status"],
        "health": "ok" if health in ("healthy", "starting", "none") else "unhealthy",
        "settings": host.digest(settings.encode(), secret=True),  # passwords may stand in the environment
    }


def canonical(value: Any, name: str = "") -> Any:
    """Settings without what passes, without empty ones (a newer Docker lists more), in an order."""
    if name in _DEFAULTS:
        return bool(value)
    if isinstance(value, dict):
        kept = {key: canonical(inner, key) for key, inner in value.items() if key not in _PASSING}
        # Sets of Docker's are objects with empty values: {"22/tcp": {}}.
        return {key: inner for key, inner in kept.items() if inner or "/" in key}
    if isinstance(value, list) and name not in _ORDERED:
        return sorted((canonical(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value


daemon = each(_daemon)
image = each(_image)
