# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom a packet filter lets in: the rules as iptables-save prints them, walked with all sources at once. Pure.

What a rule asks for that cannot be known here (an interface, a set, a rate) may hold or not: such a rule may let in,
and is not relied upon to keep out.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

Chains = Mapping[str, tuple[str, list[str]]]  # policy ("-" where there is none) and rules, as `parse_save` gives them
Spans = tuple[tuple[int, int], ...]  # first and last numbers, ascending, apart
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

EVERY: dict[str, Spans] = {"v4": ((0, (1 << 32) - 1),), "v6": ((0, (1 << 128) - 1),)}
PORTS: Spans = ((1, 65535),)
_NUMBERS = {"6": "tcp", "17": "udp", "tcp": "tcp", "udp": "udp"}
# What accepts, as far as we know: programs behind a queue mostly do.
_ACCEPTING = ("ACCEPT", "NFQUEUE", "QUEUE")
_KNOWN_MATCHES = ("tcp", "udp", "multiport", "conntrack", "state", "addrtype", "comment", "iprange")
_STATES = {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"}
# What Docker puts into FORWARD for each of its bridges, before version 28.
_OF_A_BRIDGE = re.compile(r"-i (\S+) (?:! )?-o \1 -j ACCEPT")
# Where ufw carries out its default policy.
_POLICY = re.compile(r"ufw6?-(track|skip-to-policy)-(input|forward)")
_DEEP = 64  # chains within chains; the kernel allows fewer


@dataclass(frozen=True)
class Declared:
    """Who may reach which ports of a protocol; with `interface` only by that."""

    proto: str
    ports: Spans
    sources: Mapping[str, Spans]  # by family
    interface: str = ""


@dataclass(frozen=True)
class Opening:
    """A rule that lets in more than was declared; for `rule` "" the chain's policy."""

    family: str
    proto: str
    ports: Spans
    sources: Spans
    chain: str
    rule: str
    forwarded: bool = False

    def __str__(self) -> str:
        return f"{self.what} open to {self.who} by {self.culprit}"

    @property
    def what(self) -> str:
        if self.forwarded and self.ports == PORTS:
            return f"containers ({self.family}) are"
        docker = "what Docker publishes on " if self.forwarded else ""
        return docker + ported(self.family, self.proto, self.ports)

    @property
    def who(self) -> str:
        return networks(self.sources, self.family)

    @property
    def of_docker(self) -> bool:
        """The rules are right, but something before them is missing."""
        return self.chain == "DOCKER"

    @property
    def culprit(self) -> str:
        command = "iptables" if self.family == "v4" else "ip6tables"
        if self.of_docker:
            return f"{command}: Docker's own rules, which are reached past gpustead-forward"
        return f"{command}: -A {self.chain} {self.rule}" if self.rule else f"{command}: the policy of {self.chain}"


@dataclass(frozen=True)
class Closing:
    """Declared, and surely not let in."""

    family: str
    proto: str
    ports: Spans
    sources: Spans

    def __str__(self) -> str:
        who = networks(self.sources, self.family)
        return f"{ported(self.family, self.proto, self.ports)} closed to {who}, for whom it was declared"


@dataclass(frozen=True)
class _Packet:
    """The first packet of a connection from outside the host. A port that is None may be any."""

    family: str
    proto: str
    way: str = "INPUT"
    translated: bool = False  # by DNAT
    out: str = ""  # interfaces by which it leaves, as iptables matches them; "": any
    bridges: tuple[str, ...] = ()  # those of containers: it does not come in by them


@dataclass(frozen=True)
class _Rule:
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


def ported(family: str, proto: str, ports: Spans) -> str:
    """The ports, as a sentence begins."""
    single = len(ports) == 1 and ports[0][0] == ports[0][1]
    return f"{proto} {'port' if single else 'ports'} {port_words(ports)} ({family}) {'is' if single else 'are'}"


def port_words(spans: Spans) -> str:
    return ",".join(f"{first}" if first == last else f"{first}:{last}" for first, last in spans)


def networks(spans: Spans, family: str) -> str:
    """Sources as a person writes them: any, or CIDRs; of many the first ones."""
    if spans == EVERY[family]:
        return "any"
    found = _cidrs(spans, family)
    if len(found) > 4:
        # "any but these" says more than thirty networks.
        others = _cidrs(minus(EVERY[family], spans), family)
        if len(others) < len(found):
            return f"any but {_some(others)}"
    return _some(found)


def _cidrs(spans: Spans, family: str) -> list[str]:
    kind: Any = ipaddress.IPv4Address if family == "v4" else ipaddress.IPv6Address
    return [
        re.sub(r"/(32|128)$", "", str(network)) if network.num_addresses == 1 else str(network)
        for first, last in spans
        for network in ipaddress.summarize_address_range(kind(first), kind(last))
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *[f"{len(names) - 4} more"] * (len(names) > 4)])


def union(spans: Spans, other: Spans) -> Spans:
    if not spans or not other:
        return spans or other
    merged: list[tuple[int, int]] = []
    for first, last in sorted((*spans, *other)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)


def common(spans: Spans, other: Spans) -> Spans:
    found = [(max(a, c), min(b, d)) for a, b in spans for c, d in other if a <= d and c <= b]
    return tuple(sorted(found))


def minus(spans: Spans, other: Spans) -> Spans:
    left = list(spans)
    for first, last in other:
        parts = []
        for a, b in left:
            if b < first or a > last:
                parts.append((a, b))
                continue
            parts += [(a, first - 1)] * (a < first) + [(last + 1, b)] * (b > last)
        left = parts
    return tuple(left)


def ports_of(text: str) -> Spans:
    """`22`, `22,8000:8010`; nothing: all."""
    spans: Spans = ()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition(":")
        if not first.isdigit() or not (last or first).isdigit():
            return PORTS  # a name of a service: any
        spans = union(spans, ((int(first), int(last or first)),))
    return spans or PORTS


def sources_of(names: Iterable[str]) -> dict[str, Spans]:
    """Addresses and networks by family; "any" is of both. What is none of these is nobody."""
    found: dict[str, Spans] = {"v4": (), "v6": ()}
    for name in names:
        if name.lower() in ("any", "anywhere", "0.0.0.0/0", "::/0"):
            return dict(EVERY)
        network = _network(name)
        if network is not None:
            family = f"v{network.version}"
            found[family] = union(found[family], _span(network))
    return found


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _masked(text)


def _masked(text: str) -> Network | None:
    """10.0.0.0/255.0.0.0 is known to ipaddress; an IPv6 mask is not."""
    address, _, mask = text.partition("/")
    try:
        bits = int(ipaddress.IPv6Address(mask)) if mask else 0
        return ipaddress.ip_network(f"{address}/{bin(bits).count('1')}", strict=False) if mask else None
    except ValueError:
        return None


def _span(network: Network) -> Spans:
    return ((int(network.network_address), int(network.broadcast_address)),)


def declared(rules: Iterable[Mapping[str, Any]]) -> list[Declared]:
    """What rules in the words of the module ufw_rules let in, each for tcp and udp as it says."""
    found = []
    for rule in rules:
        if rule.get("rule", "allow") not in ("allow", "limit") or rule.get("direction", "in") != "in":
            continue
        sources = rule.get("from_ip", ["any"])
        names = sources.split(",") if isinstance(sources, str) else sources
        proto = str(rule.get("proto") or "any")
        for kind in ("tcp", "udp") if proto == "any" else (proto,) * (proto in ("tcp", "udp")):
            ports = ports_of(str(rule.get("to_port") or ""))
            found.append(Declared(kind, ports, sources_of(map(str, names)), str(rule.get("interface") or "")))
    return found


def allowed(policy: Sequence[Declared], family: str, proto: str, port: int, interface: str = "") -> Spans:
    """The sources to whom a port is declared, by a rule that asks for this interface or does not ask for any."""
    spans: Spans = ()
    for entry in policy:
        if entry.interface not in ("", interface):
            continue
        if entry.proto == proto and common(entry.ports, ((port, port),)):
            spans = union(spans, entry.sources[family])
    return spans


def incoming(
    chains: Chains, family: str, policy: Sequence[Declared], protected: Spans
) -> tuple[list[Opening], list[Closing]]:
    """What INPUT lets in of the ports that are declared, beyond what is declared; and what it surely keeps out.

    Args:
        policy: who may reach which ports. Other ports are not ours to judge.
        protected: sources to whom a closed port counts; to shut out others (bans) is everybody's right.
    """
    openings: list[Opening] = []
    closings: list[Closing] = []
    for proto in ("tcp", "udp"):
        ours: Spans = ()
        for entry in policy:
            # Who may come in by any port makes none of them ours.
            ours = union(ours, entry.ports if entry.proto == proto and entry.ports != PORTS else ())
        filter_, found = _Filter(chains, _Packet(family, proto)), _Found()
        for span in filter_.segments(ours, [entry.ports for entry in policy]):
            found.judge(filter_, span, policy, common(allowed(policy, family, proto, span[0]), protected), span[0])
        openings += found.openings.values()
        closings += found.closings.values()
    return openings, closings


def forwarded(chains: Chains, family: str, policy: Sequence[Declared], bridges: Sequence[str]) -> list[Opening]:
    """What is forwarded to containers beyond what is declared: by the ports that Docker publishes, and past them.

    Args:
        policy: who may reach which published ports. All others are to be closed.
        bridges: names of container bridges, as iptables matches them.
    """
    if "DOCKER" not in chains:  # Docker filters nothing here: it is not there, or IPv6 before version 27
        return []
    packet = _Packet(family, "tcp", "FORWARD", bridges=tuple(bridges))
    filter_, published = _Filter(chains, replace(packet, translated=True)), _Found()
    for span in filter_.segments(PORTS, [entry.ports for entry in policy]):
        published.judge(filter_, span, policy, (), span[0])
    direct = _Found()
    for bridge in bridges:
        direct.judge(_Filter(chains, replace(packet, out=bridge)), PORTS[0], (), (), None)
    return list({**direct.openings, **published.openings}.values())


_Accepted = tuple[Spans, str, str, str]  # sources, chain, rule, the interface that was asked for


@dataclass
class _Found:
    """What was found of one kind of packet, by rule and by who is shut out; neighbouring ports together."""

    openings: dict[tuple[str, str], Opening] = field(default_factory=dict)
    closings: dict[Spans, Closing] = field(default_factory=dict)

    def judge(
        self, filter_: _Filter, span: tuple[int, int], policy: Sequence[Declared], must: Spans, port: int | None
    ) -> None:
        """Ask for one port of `span`, in which all are alike (None: any), and compare with who may and who must."""
        packet, let_in = filter_.packet, ()  # type: tuple[_Packet, Spans]
        for sources, chain, rule, interface in filter_.walk(port):
            let_in = union(let_in, sources)
            beyond = minus(sources, allowed(policy, packet.family, packet.proto, span[0], interface))
            if beyond:
                found = self.openings.get((chain, rule))
                ports = union(found.ports if found else (), (span,))
                beyond = union(found.sources if found else (), beyond)
                forwards = packet.way == "FORWARD"
                opening = Opening(packet.family, packet.proto, ports, beyond, chain, rule, forwards)
                self.openings[chain, rule] = opening
        shut = minus(must, let_in)
        if shut:
            before = self.closings.get(shut)
            ports = union(before.ports if before else (), (span,))
            self.closings[shut] = Closing(packet.family, packet.proto, ports, shut)


class _Filter:
    """The rules that concern one kind of packet, read once."""

    def __init__(self, chains: Chains, packet: _Packet) -> None:
        self.packet, self.every = packet, EVERY[packet.family]
        self.policies = {name: policy for name, (policy, _) in chains.items()}
        self.rules: dict[str, list[_Rule]] = {}
        waiting = [packet.way]
        while waiting:
            name = waiting.pop()
            if name not in self.rules:
                read = (_read(text, packet) for text in chains.get(name, ("-", []))[1])
                self.rules[name] = [rule for rule in read if rule]
                waiting += [rule.target for rule in self.rules[name] if rule.target in chains]

    def segments(self, ports: Spans, others: Iterable[Spans]) -> Iterator[tuple[int, int]]:
        """Parts of `ports` in which no rule tells one port from another."""
        asked = [*others, *(rule.ports for rules in self.rules.values() for rule in rules)]
        asked += [rule.original for rules in self.rules.values() for rule in rules]
        starts = {edge for spans in asked for first, last in spans for edge in (first, last + 1)}
        for first, last in ports:
            edges = sorted({first, *(edge for edge in starts if first < edge <= last)})
            yield from zip(edges, [*(edge - 1 for edge in edges[1:]), last])

    def walk(self, port: int | None) -> list[_Accepted]:
        """All that is accepted. `port`: that which was called; None: any."""
        accepted: list[_Accepted] = []
        way = self.packet.way
        left = self._chain(way, self.every, port, (), accepted)
        if left and self.policies.get(way, "ACCEPT") == "ACCEPT":
            accepted.append((left, way, "", ""))
        return accepted

    def _chain(
        self,
        name: str,
        sources: Spans,
        port: int | None,
        path: tuple[tuple[str, _Rule], ...],
        accepted: list[_Accepted],
    ) -> Spans:
        """What comes out at the end of a chain."""
        out: Spans = ()
        for rule in self.rules.get(name, ()):
            if not sources or len(path) > _DEEP:
                break
            hit, sure = self._hit(rule, sources, port)
            if not hit:
                continue
            if rule.target in _ACCEPTING:
                steps = (*path, (name, rule))
                interface = next((step.interface for _, step in steps if step.interface), "")
                accepted.append((hit, *_culprit(steps), interface))
            elif rule.target == "RETURN":
                out = union(out, hit)
            elif rule.target in self.rules:
                through = self._chain(rule.target, hit, port, (*path, (name, rule)), accepted)
                # What goes on in this chain: who was not meant, who may not have been, and who came back.
                sources = minus(sources, hit) if sure else sources
                if rule.goto:
                    out = union(out, through)
                elif sure:
                    sources = union(sources, through)
                continue
            elif rule.target not in ("DROP", "REJECT"):
                continue
            sources = minus(sources, hit) if sure else sources
        return union(out, sources)

    def _hit(self, rule: _Rule, sources: Spans, port: int | None) -> tuple[Spans, bool]:
        """Of `sources` those that the rule may mean, and whether it surely does."""
        sure = rule.sure
        # What was translated has kept the port that was called in `original` alone.
        called = (rule.original,) if self.packet.translated else (rule.original, rule.ports)
        for spans in called:
            if spans != PORTS:
                if port is None:
                    sure = False
                elif not any(first <= port <= last for first, last in spans):
                    return (), False
        if self.packet.translated and rule.ports != PORTS:
            sure = False
        return (sources if rule.sources == self.every else common(sources, rule.sources)), sure


def _culprit(path: Sequence[tuple[str, _Rule]]) -> tuple[str, str]:
    """Of the rules that led there the last one that asks for something; else the last."""
    chain, rule = next((step for step in reversed(path) if not step[1].plain), path[-1])
    if chain.startswith("DOCKER") and chain != "DOCKER-USER":
        return "DOCKER", ""
    if _POLICY.fullmatch(chain):
        return chain.rpartition("-")[2].upper(), ""
    if chain == "FORWARD" and _OF_A_BRIDGE.fullmatch(rule.text):
        return "DOCKER", ""
    return chain, rule.text


def _read(text: str, packet: _Packet) -> _Rule | None:
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
    return _Rule(text, target, goto, sources, ports, original, sure, plain, interface)


def _source_spans(word: str, value: str, family: str) -> Spans | None:
    if word == "-s":
        network = _network(value)
        return _span(network) if network is not None else EVERY[family]
    if word == "--src-range":
        first, _, last = value.partition("-")
        try:
            return ((int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last or first))),)
        except ValueError:
            return EVERY[family]
    return None


def _holds(word: str, values: Sequence[str], packet: _Packet) -> bool | None:
    """Whether a condition holds for the packet; None: that cannot be known."""
    value = values[0] if values else ""
    if word in ("--ctstate", "--state"):
        states = set(value.split(","))
        return None if states - _STATES else bool(states & ({"NEW", "DNAT"} if packet.translated else {"NEW"}))
    if word == "--tcp-flags" and len(values) == 2:
        mask, wanted = (set(flags.split(",")) - {"NONE"} for flags in values)
        return wanted == ({"SYN"} if mask & {"SYN", "ALL"} else set())
    test = _TESTS.get(word)
    return test(value, packet) if test else None


def _protocol(value: str, packet: _Packet) -> bool | None:
    return value in ("all", "0") or _NUMBERS.get(value) == packet.proto


def _comes_in(value: str, packet: _Packet) -> bool | None:
    if value == "lo" or (packet.way == "FORWARD" and any(_within(value, bridge) for bridge in packet.bridges)):
        return False
    return value == "+" or None


def _leaves(value: str, packet: _Packet) -> bool | None:
    if not packet.out:
        return False if value == "lo" else value == "+" or None
    return _within(packet.out, value) or (None if _within(value, packet.out) else False)


def _goes_to(value: str, packet: _Packet) -> bool | None:
    network = _network(value)
    if network is None or not (network.is_loopback or network.is_multicast):
        return True if network is not None and not network.prefixlen else None
    return False


def _kind_of_address(value: str, packet: _Packet) -> bool | None:
    if value == "LOCAL":
        return packet.way == "INPUT"
    return None if "," in value or value == "UNICAST" else False


_TESTS: dict[str, Callable[[str, _Packet], bool | None]] = {
    "-p": _protocol,
    "-i": _comes_in,
    "-o": _leaves,
    "-d": _goes_to,
    "--dst-type": _kind_of_address,
}


def _within(name: str, pattern: str) -> bool:
    """Whether all interfaces of the one are of the other."""
    return name == pattern or (pattern.endswith("+") and name.startswith(pattern[:-1]))
