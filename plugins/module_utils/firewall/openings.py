# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom a packet filter lets in: the rules as iptables-save prints them, walked with all sources at once. Pure.

What a rule asks for that cannot be known here (an interface, a set, a rate) may hold or not: such a rule may let in,
and is not relied upon to keep out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.filter_rules import (
    NEW,
    OTHERS,
    TRANSLATED,
    UNTRACKED,
    KernelRule,
    Packet,
    read_rule,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import (
    EVERY,
    PORTS,
    Spans,
    common,
    minus,
    networks,
    port_words,
    ports_of,
    sources_of,
    union,
)

Chains = Mapping[str, tuple[str, list[str]]]  # policy ("-" where there is none) and rules, as `parse_save` gives them

# What accepts, as far as we know: programs behind a queue mostly do.
_ACCEPTING = ("ACCEPT", "NFQUEUE", "QUEUE")
# What Docker puts into FORWARD for each of its bridges, before version 28.
_OF_A_BRIDGE = re.compile(r"-i (\S+) (?:! )?-o \1 -j ACCEPT")
# Where ufw carries out its default policy.
_POLICY = re.compile(r"ufw6?-(track|skip-to-policy)-(input|forward)")
_DEEP = 64  # chains within chains; the kernel allows fewer


@dataclass(frozen=True)
class AllowedPorts:
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
class Origin:
    """Where a rule that lets in comes from, and how it is taken back.

    `argv`: the command for it; `file`, `line`: what is to be taken out before. Neither: something else must be mended.
    `kept`: one of ours, as ufw keeps it.
    """

    opening: Opening
    name: str
    argv: tuple[str, ...] = ()
    file: str = ""
    line: str = ""
    kept: str = ""

    @property
    def remedy(self) -> str:
        steps = [f"take it out of {self.file}"] * bool(self.file) + [shlex.join(self.argv)] * bool(self.argv)
        return " and ".join(steps)

    def __str__(self) -> str:
        return f"{self.opening.what} open to {self.opening.who} by {self.name}"


@dataclass(frozen=True)
class Stranger:
    """A bridge that is taken for one of Docker's, by which others come in: what it sends passes as a container's."""

    name: str
    why: str
    argv: tuple[str, ...] = ()
    file: str = ""
    line: str = ""
    kept: str = ""

    @property
    def remedy(self) -> str:
        return "list Docker's own bridges in firewall_docker_bridges, or give it another name"

    def __str__(self) -> str:
        who = f"who comes in by the bridge {self.name}"
        return f"containers are open to {who}: it passes for one of Docker's, and {self.why}"


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


def ported(family: str, proto: str, ports: Spans) -> str:
    """The ports, as a sentence begins."""
    single = len(ports) == 1 and ports[0][0] == ports[0][1]
    return f"{proto} {'port' if single else 'ports'} {port_words(ports)} ({family}) {'is' if single else 'are'}"


def declared(rules: Iterable[Mapping[str, Any]]) -> list[AllowedPorts]:
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
            found.append(AllowedPorts(kind, ports, sources_of(map(str, names)), str(rule.get("interface") or "")))
    return found


def allowed(policy: Sequence[AllowedPorts], family: str, proto: str, port: int, interface: str = "") -> Spans:
    """The sources to whom a port is declared, by a rule that asks for this interface or does not ask for any."""
    spans: Spans = ()
    for entry in policy:
        if entry.interface not in ("", interface):
            continue
        if entry.proto == proto and common(entry.ports, ((port, port),)):
            spans = union(spans, entry.sources[family])
    return spans


def incoming(
    chains: Chains, family: str, policy: Sequence[AllowedPorts], protected: Spans
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
        found = _Found()
        for states in (NEW, UNTRACKED, TRANSLATED):
            filter_ = _Filter(chains, Packet(family, proto, states=states))
            for span in filter_.segments(ours, [entry.ports for entry in policy]):
                must = common(allowed(policy, family, proto, span[0]), protected) if states == NEW else ()
                found.judge(filter_, span, policy, must, span[0])
        openings += found.openings.values()
        closings += found.closings.values()
    return openings, closings


def forwarded(chains: Chains, family: str, policy: Sequence[AllowedPorts], bridges: Sequence[str]) -> list[Opening]:
    """What is forwarded to containers beyond what is declared: by the ports that Docker publishes, and past them.

    Args:
        policy: who may reach which published ports. All others are to be closed.
        bridges: names of container bridges, as iptables matches them.
    """
    if "DOCKER" not in chains:  # Docker filters nothing here: it is not there, or IPv6 before version 27
        return []
    openings: dict[tuple[str, str], Opening] = {}
    for proto in ("tcp", "udp", OTHERS):
        packet = Packet(family, proto, "FORWARD", bridges=tuple(bridges))
        filter_, published = _Filter(chains, replace(packet, states=TRANSLATED)), _Found()
        for span in filter_.segments(PORTS, [entry.ports for entry in policy]) if proto != OTHERS else PORTS:
            published.judge(filter_, span, policy, (), span[0] if proto != OTHERS else None)
        direct = _Found()
        for bridge in bridges:
            for states in (NEW, UNTRACKED):
                direct.judge(_Filter(chains, replace(packet, out=bridge, states=states)), PORTS[0], (), (), None)
        # One rule is one opening, whatever else it lets in.
        openings = {**direct.openings, **published.openings, **openings}
    return list(openings.values())


_Accepted = tuple[Spans, str, str, str]  # sources, chain, rule, the interface that was asked for


@dataclass
class _Found:
    """What was found of one kind of packet, by rule and by who is shut out; neighbouring ports together."""

    openings: dict[tuple[str, str], Opening] = field(default_factory=dict)
    closings: dict[Spans, Closing] = field(default_factory=dict)

    def judge(
        self, filter_: _Filter, span: tuple[int, int], policy: Sequence[AllowedPorts], must: Spans, port: int | None
    ) -> None:
        """Ask for one port of `span`, in which all are alike (None: any), and compare with who may and who must."""
        packet, let_in = filter_.packet, ()  # type: tuple[Packet, Spans]
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

    def __init__(self, chains: Chains, packet: Packet) -> None:
        self.packet, self.every = packet, EVERY[packet.family]
        self.policies = {name: policy for name, (policy, _second) in chains.items()}
        self.rules: dict[str, list[KernelRule]] = {}
        waiting = [packet.way]
        while waiting:
            name = waiting.pop()
            if name not in self.rules:
                read = (read_rule(text, packet) for text in chains.get(name, ("-", []))[1])
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
        path: tuple[tuple[str, KernelRule], ...],
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
                interface = next((step.interface for _first, step in steps if step.interface), "")
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

    def _hit(self, rule: KernelRule, sources: Spans, port: int | None) -> tuple[Spans, bool]:
        """Of `sources` those that the rule may mean, and whether it surely does."""
        sure = rule.sure
        known: tuple[Spans, ...] = (rule.original, rule.ports)
        unknown = PORTS
        if self.packet.published:
            # What was translated has kept the port that was called in `original` alone.
            known, unknown = (rule.original,), rule.ports
        elif self.packet.states != NEW:
            # What was sent to this port was called elsewhere, and of what is not tracked nothing is kept.
            known, unknown = (rule.ports,), rule.original
        for spans in known:
            if spans != PORTS:
                if port is None:
                    sure = False
                elif not any(first <= port <= last for first, last in spans):
                    return (), False
        sure = sure and unknown == PORTS
        return (sources if rule.sources == self.every else common(sources, rule.sources)), sure


def _culprit(path: Sequence[tuple[str, KernelRule]]) -> tuple[str, str]:
    """Of the rules that led there the last one that asks for something; else the last."""
    chain, rule = next((step for step in reversed(path) if not step[1].plain), path[-1])
    if chain.startswith("DOCKER") and chain != "DOCKER-USER":
        return "DOCKER", ""
    if _POLICY.fullmatch(chain):
        return chain.rpartition("-")[2].upper(), ""
    if chain == "FORWARD" and _OF_A_BRIDGE.fullmatch(rule.text):
        return "DOCKER", ""
    return chain, rule.text
