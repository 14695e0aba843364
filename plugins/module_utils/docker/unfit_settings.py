# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings of Docker's daemon with which a cluster cannot run, though Docker does: found before anything is changed.

Hardening guides (CIS Docker Benchmark 2.9) and cures for ufw recommend some of them. Facts:
https://docs.docker.com/engine/security/userns-remap/#user-namespace-known-limitations,
https://docs.docker.com/engine/network/packet-filtering-firewalls/,
https://docs.docker.com/engine/network/drivers/bridge/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.dockerd import Flag

_SOCKETS = ("unix:///var/run/docker.sock", "unix:///run/docker.sock", "fd://")
_BRIDGE = "com.docker.network.bridge."
_FALSE = ("0", "f", "false")  # of Go's flags


@dataclass(frozen=True)
class Unfit:
    """A setting, and what does not work with it. `key` as daemon.json has it, of objects with dots."""

    key: str
    value: Any
    why: str

    def __str__(self) -> str:
        shown = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.key}: {shown}"


def _is_false(value: Any) -> bool:
    return str(value).lower() in _FALSE


def _is_true(value: Any) -> bool:
    return value is True


def _has_no_socket(value: Any) -> bool:
    hosts = [value] if isinstance(value, str) else value or []
    return bool(hosts) and not any(str(host).startswith(_SOCKETS) for host in hosts)


_REFUSED: list[tuple[str, Callable[[Any], bool], str]] = [
    (
        "userns-remap",
        bool,
        "containers then have other ids than the host: the mesh may not use the host's network, and files on the NAS "
        "belong to nobody",
    ),
    (
        "iptables",
        _is_false,
        "containers then have no way out, no port can be published, and there is no chain in which role firewall could "
        "govern Docker's ports",
    ),
    ("hosts", _has_no_socket, "docker and the modules speak to it through /var/run/docker.sock"),
    (
        f"default-network-opts.bridge.{_BRIDGE}host_binding_ipv4",
        lambda value: str(value).startswith("127."),
        "the workspaces could then be reached from their own host alone; role firewall says who may reach them",
    ),
    (
        f"default-network-opts.bridge.{_BRIDGE}gateway_mode_ipv4",
        lambda value: value in ("routed", "isolated"),
        "ports of the workspaces are then not published at the host's address",
    ),
    (f"default-network-opts.bridge.{_BRIDGE}enable_ip_masquerade", _is_false, "containers then have no way out"),
]
_NO_FORWARDING = ("ip-forward", _is_false, "the kernel does not forward here, so containers then have no way out")
# With these a cluster runs, but not all of it.
_WARNED: list[tuple[str, Callable[[Any], bool], str]] = [
    ("bridge", lambda value: value == "none", "no image can then be built on this host"),
    ("ip-masq", _is_false, "builds of images then have no way out on this host"),
    (
        "no-new-privileges",
        _is_true,
        "sudo then does not work in workspaces that declare it (those that do not are never given new privileges)",
    ),
]


def refused(settings: Mapping[str, Any], forwards: bool = True) -> list[Unfit]:
    """Those with which a cluster cannot run.

    Args:
        settings: as in daemon.json.
        forwards: whether the kernel forwards packets without Docker's doing.
    """
    return list(_found(settings, _REFUSED if forwards else [*_REFUSED, _NO_FORWARDING]))


def warnings(settings: Mapping[str, Any]) -> list[Unfit]:
    """Those with which a part of it does not work."""
    return list(_found(settings, _WARNED))


def _found(settings: Mapping[str, Any], rules: Iterable[tuple[str, Callable[[Any], bool], str]]) -> Iterator[Unfit]:
    for key, is_unfit, why in rules:
        value = _value(settings, key)
        if value is not None and is_unfit(value):
            yield Unfit(key, value, why)


def _value(settings: Any, key: str) -> Any:
    """Of a key with dots the inner value. Those of network drivers have dots of their own."""
    first, _separator, rest = key.partition(".")
    if not isinstance(settings, Mapping):
        return None
    if key in settings or not rest:
        return settings.get(key)
    return _value(settings.get(first), rest)


def of_flags(given: Iterable[Flag], forwards: bool = True) -> list[tuple[Flag, Unfit]]:
    """The same of options on dockerd's command line. What stands behind one as a word of its own is not known."""
    found: list[tuple[Flag, Unfit]] = []
    for flag in given:
        _name, separator, value = flag.text.partition("=")
        # Of a switch the bare name means true.
        text: Any = value.strip("\"'") if separator else True
        if flag.key != "hosts":
            found += [(flag, unfit) for unfit in refused({flag.key: text}, forwards)]
    return found
