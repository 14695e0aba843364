# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules of a packet filter as iptables-save prints them, read for one kind of packet. Pure.

What a rule asks for that cannot be known here (an interface, a set, a rate) may hold or not.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import (
    EVERY,
    PORTS,
    Spans,
    common,
    minus,
    network_of,
    ports_of,
    span_of,
)

_NUMBERS = {"6": "tcp", "17": "udp", "tcp": "tcp", "udp": "udp"}
_KNOWN_MATCHES = ("tcp", "udp", "multiport", "conntrack", "state", "addrtype", "comment", "iprange")
_STATES = {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"}
# Protocols by which nobody calls a service: a rule for one of these opens none.
_WITHOUT_PORTS = {"icmp", "ipv6-icmp", "icmpv6", "igmp", "1", "58", "2"}
OTHERS = "others"  # all but TCP and UDP
# What the first packet may be for conntrack. The tables that decide it are not read: `raw` can have it not tracked, and
# `nat` can send to one of our ports what was called elsewhere.
NEW, UNTRACKED, TRANSLATED = ("NEW",), ("UNTRACKED",), ("NEW", "DNAT")


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection from outside the host. A port that is None may be any."""

    family: str
    proto: str
    way: str = "INPUT"
    states: tuple[str, ...] = NEW
    out: str = ""  # interfaces by which it leaves, as iptables matches them; "": any
    bridges: tuple[str, ...] = ()  # those of containers: it does not come in by them

    @property
    def published(self) -> bool:
        """Whether Docker has translated it: the port that it has now is the container's."""
        return self.way == "FORWARD" and self.states == TRANSLATED


@dataclass(frozen=True)
class KernelRule:
    """What is left of a rule for one kind of packet: `sure` where nothing else has to hold."""

    text: str
    target: str
    goto: bool
    sources: Spans
    ports: Spans
    original: Spans
    sure: bool
    plain: bool  # it asks for nothing at all
    interface: str  # it asks for this one


def read_rule(text: str, packet: Packet) -> KernelRule | None:
    """A rule for this kind of packet; None where it surely does not mean it."""
    words = shlex.split(text) if '"' in text or "'" in text else text.split()
    sources, ports, original = EVERY[packet.family], PORTS, PORTS
    sure, plain, goto, target = True, True, False, ""
    negated, at, interface = False, 0, ""
    while at < len(words):
        word, at = words[at], at + 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            target, goto = (words[at] if at < len(words) else ""), word == "-g"
            break
        values = []
        while at < len(words) and words[at] != "!" and not re.match(r"--?[a-z]", words[at]):
            values.append(words[at])
            at += 1
        value = values[0] if values else ""
        if word == "-m" and value not in _KNOWN_MATCHES:
            sure = plain = False
        elif word not in ("-m", "--comment"):
            plain = False
            spans = _source_spans(word, value, packet.family)
            if spans is not None:
                sources = common(sources, minus(EVERY[packet.family], spans) if negated else spans)
            elif word in ("--dport", "--dports"):
                ports = common(ports, minus(PORTS, ports_of(value)) if negated else ports_of(value))
            elif word == "--ctorigdstport":
                spans = ports_of(value)
                original = common(original, minus(PORTS, spans) if negated else spans)
            else:
                interface = value if word == "-i" and not negated else interface
                holds = _holds(word, values, packet)
                holds = holds if holds is None or not negated else not holds
                if holds is False:
                    return None
                sure = sure and holds is not None
        negated = False
    if not sources or not ports or not original:
        return None
    return KernelRule(text, target, goto, sources, ports, original, sure, plain, interface)


def _source_spans(word: str, value: str, family: str) -> Spans | None:
    if word == "-s":
        network = network_of(value)
        return span_of(network) if network is not None else EVERY[family]
    if word == "--src-range":
        first, _separator, last = value.partition("-")
        try:
            return ((int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last or first))),)
        except ValueError:
            return EVERY[family]
    return None


def _holds(word: str, values: Sequence[str], packet: Packet) -> bool | None:
    """Whether a condition holds for the packet; None: that cannot be known."""
    value = values[0] if values else ""
    if word in ("--ctstate", "--state"):
        states = set(value.split(","))
        return None if states - _STATES else bool(states & set(packet.states))
    if word == "--tcp-flags" and len(values) == 2:
        mask, wanted = (set(flags.split(",")) - {"NONE"} for flags in values)
        return wanted == ({"SYN"} if mask & {"SYN", "ALL"} else set())
    test = _TESTS.get(word)
    return test(value, packet) if test else None


def _protocol(value: str, packet: Packet) -> bool | None:
    if value in ("all", "0"):
        return True
    if packet.proto == OTHERS:
        return False if value in _NUMBERS or value in _WITHOUT_PORTS else None
    return _NUMBERS.get(value) == packet.proto


def _comes_in(value: str, packet: Packet) -> bool | None:
    if value == "lo" or (packet.way == "FORWARD" and any(_within(value, bridge) for bridge in packet.bridges)):
        return False
    return value == "+" or None


def _leaves(value: str, packet: Packet) -> bool | None:
    if not packet.out:
        return False if value == "lo" else value == "+" or None
    return _within(packet.out, value) or (None if _within(value, packet.out) else False)


def _goes_to(value: str, packet: Packet) -> bool | None:
    network = network_of(value)
    if network is None or not (network.is_loopback or network.is_multicast):
        return True if network is not None and not network.prefixlen else None
    return False


def _kind_of_address(value: str, packet: Packet) -> bool | None:
    if value == "LOCAL":
        return packet.way == "INPUT"
    return None if "," in value or value == "UNICAST" else False


_TESTS: dict[str, Callable[[str, Packet], bool | None]] = {
    "-p": _protocol,
    "-i": _comes_in,
    "-o": _leaves,
    "-d": _goes_to,
    "--dst-type": _kind_of_address,
}


def _within(name: str, pattern: str) -> bool:
    """Whether all interfaces of the one are of the other."""
    return name == pattern or (pattern.endswith("+") and name.startswith(pattern[:-1]))
