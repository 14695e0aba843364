# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who reaches which port of a host, by what its firewall is declared to let in: rows of a table for people. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import (
    LOCKS,
    NODES,
    Settings,
    plan,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.openings import declared
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

# Of those in a column: all, none, some; or whoever a firewall that is not ours lets in. "": nobody is declared.
YES, NO, SOME, UNKNOWN = "yes", "no", "some", "unknown"
OTHERS = "all other ports"
_OF_OTHERS = "workspaces of others"
# What the ports of a rule are for that have no title of their own, by its comment.
_FURTHER = {
    "mesh": "training between the nodes (DeepSpeed, NCCL, gloo)",
    "nas": "the NAS server, its other services",
    LOCKS: "the NAS server's answers about locks (NFS 3)",
    "registry caches": "the cache of the registry",
}
_Sources = Mapping[str, Spans]  # by family


@dataclass(frozen=True)
class OfferedPort:
    """A service of a workspace, on a port that Docker publishes. `local`: at an address of the node's own alone."""

    title: str
    port: int
    local: bool = False


@dataclass(frozen=True)
class Reach:
    """A row: ports, and who comes in. From the host itself all of them are reached.

    Attributes:
        what: listens there.
        ports: as people write them.
        outsiders, clients, nodes: YES, NO, SOME or UNKNOWN, of all addresses of that kind; empty: there are none.
        sources: those that come in, where only SOME do.
        hosts: on which it is so.
    """

    what: str
    ports: str
    outsiders: str
    clients: str
    nodes: str
    sources: str = ""
    hosts: tuple[str, ...] = ()


def reach(
    settings: Settings,
    groups: Collection[str],
    ssh_port: int,
    offered: Sequence[OfferedPort] = (),
    listening: Mapping[str, Any] | None = None,
) -> list[Reach]:
    """The rows of a host.

    Args:
        settings: of its firewall.
        groups: of the inventory that it is in.
        ssh_port: of its own sshd.
        offered: services of its workspaces.
        listening: what else listens on it, title to TCP port.
    """
    # The role declares it where it knows the port.
    ssh = {"from_ip": settings.ssh_sources, "to_port": str(ssh_port), "proto": "tcp", "comment": "SSH to the host"}
    rules = [ssh, *plan(settings, groups).rules]
    doors = [door for rule in _last(rules) for door in _doors(rule)]
    rows = [_row(settings, "SSH to the host", "tcp", ports_of(str(ssh_port)), doors)]
    claimed = ports_of(str(ssh_port))
    if NODES in groups:
        rows += _published(settings, offered)
        claimed = union(claimed, _ports(settings.published))
        claimed = union(claimed, _ports(one.port for one in offered))
    for title, port in (listening or {}).items():
        rows.append(_row(settings, title, "tcp", ports_of(str(port)), doors))
        claimed = union(claimed, ports_of(str(port)))
    for rule in rules:
        what = str(rule.get("comment") or "a rule of the site")
        for door in _doors(rule):
            ports = minus(door.ports, claimed if door.proto == "tcp" else ())
            # One for all ports shows in each row, and in the last one.
            if door.opens and ports and door.ports != PORTS:
                rows.append(_row(settings, _FURTHER.get(what, what), door.proto, ports, doors))
                claimed = union(claimed, ports if door.proto == "tcp" else ())
    return [*rows, replace(_row(settings, OTHERS, "tcp", minus(PORTS, claimed), doors), ports="")]


def merged(rows: Mapping[str, Sequence[Reach]]) -> list[Reach]:
    """The rows of several hosts, each once, with all hosts on which it is so."""
    found: dict[Reach, list[str]] = {}
    for host, of_host in rows.items():
        for row in of_host:
            found.setdefault(row, []).append(host)
    order = [*dict.fromkeys(row.what for row in found if row.what != OTHERS), OTHERS]
    return sorted(
        (replace(row, hosts=tuple(hosts)) for row, hosts in found.items()), key=lambda row: order.index(row.what)
    )


@dataclass(frozen=True)
class _Door:
    """A rule for a protocol. `sure`: for all that come from its sources, however they come."""

    proto: str
    ports: Spans
    sources: _Sources
    opens: bool
    sure: bool


def _last(rules: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The rules, each of one source. Of two for the very same, ufw has the one that comes last."""
    kept = {}
    for rule in rules:
        sources = rule.get("from_ip", ["any"])
        for source in sources.split(",") if isinstance(sources, str) else sources:
            place = [
                str(rule.get(word)) for word in ("direction", "interface", "from_port", "to_ip", "to_port", "proto")
            ]
            kept[(source, *place)] = {**rule, "from_ip": [source]}
    return kept.values()


def _doors(rule: Mapping[str, Any]) -> Iterator[_Door]:
    if rule.get("direction", "in") != "in":
        return
    narrow = rule.get("interface") or rule.get("from_port") or str(rule.get("to_ip") or "any").lower() != "any"
    opens = rule.get("rule", "allow") in ("allow", "limit")
    for one in declared([{**rule, "rule": "allow"}]):
        yield _Door(one.proto, one.ports, one.sources, opens, not narrow)


def _row(settings: Settings, what: str, proto: str, ports: Spans, doors: Iterable[_Door]) -> Reach:
    """A row of ports of the host's own. What denies stands in front of what lets in."""
    at = [door for door in doors if door.proto == proto and common(door.ports, ports)]
    whole = [door for door in at if door.sure and not minus(ports, door.ports)]
    let_in = _without(_sources(one for one in whole if one.opens), _sources(one for one in at if not one.opens))
    perhaps = _without(_sources(one for one in at if one.opens), _sources(one for one in whole if not one.opens))
    return _judged(settings, what, _written(ports, proto), let_in, perhaps)


def _published(settings: Settings, offered: Sequence[OfferedPort]) -> Iterator[Reach]:
    """Rows of what Docker publishes: ufw's rules are not asked there."""
    everyone = sources_of([*settings.network, *settings.clients])
    opened = [ports_of(str(port)) for port in settings.published]
    for ports in sorted(opened, key=lambda ports: ports[0][0] != ports[0][1]):
        here = [one for one in offered if _inside(one, ports)]
        local = [one for one in here if one.local]
        if ports[0][0] == ports[0][1]:
            what = here[0].title if here else "a published port"
            yield _local(here[0]) if local else _judged(settings, what, _written(ports), everyone, everyone)
            continue
        yield _judged(settings, _OF_OTHERS, _written(ports), everyone, everyone)
        yield from map(_local, local)
    for one in offered:
        if not any(_inside(one, ports) for ports in opened):
            nobody = sources_of(())
            yield _local(one) if one.local else _judged(settings, one.title, str(one.port), nobody, nobody)


def _local(one: OfferedPort) -> Reach:
    return Reach(one.title, str(one.port), NO, NO, NO)


def _inside(one: OfferedPort, ports: Spans) -> bool:
    return bool(common(ports_of(str(one.port)), ports))


def _judged(settings: Settings, what: str, ports: str, let_in: _Sources, perhaps: _Sources) -> Reach:
    """A row.

    Args:
        let_in: sources that surely come in.
        perhaps: those that come in to some of the ports, or in some ways.
    """
    if not settings.enabled:
        return Reach(what, ports, UNKNOWN, UNKNOWN, UNKNOWN)
    nodes, clients = sources_of(settings.network), sources_of(settings.clients)
    callers = [_without(_without(EVERY, nodes), clients), _without(clients, nodes), nodes]
    outsiders, of_clients, of_nodes = (_cell(caller, let_in, perhaps) for caller in callers)
    some = [_some(caller, perhaps) for caller, cell in zip(callers, (outsiders, of_clients, of_nodes)) if cell == SOME]
    return Reach(what, ports, outsiders, of_clients, of_nodes, ", ".join(dict.fromkeys(some)))


def _cell(caller: _Sources, let_in: _Sources, perhaps: _Sources) -> str:
    if not any(caller.values()):
        return ""
    if not any(minus(caller[family], let_in[family]) for family in EVERY):
        return YES
    return SOME if any(common(caller[family], perhaps[family]) for family in EVERY) else NO


def _some(caller: _Sources, perhaps: _Sources) -> str:
    """Which of these come in, or which do not, whatever is the shorter. All may, to a part of the ports, say."""
    come = _named({family: common(caller[family], perhaps[family]) for family in EVERY})
    stay = _named(_without(caller, perhaps))
    return min(come, f"not {stay}", key=len) if stay else f"{come}, in part"


def _named(sources: _Sources) -> str:
    return ", ".join(networks(spans, family) for family, spans in sources.items() if spans)


def _sources(doors: Iterable[_Door]) -> _Sources:
    found: dict[str, Spans] = dict.fromkeys(EVERY, ())
    for door in doors:
        found = {family: union(found[family], door.sources[family]) for family in EVERY}
    return found


def _without(sources: _Sources, others: _Sources) -> _Sources:
    return {family: minus(sources[family], others[family]) for family in EVERY}


def _ports(ports: Iterable[Any]) -> Spans:
    found: Spans = ()
    for port in ports:
        found = union(found, ports_of(str(port)))
    return found


def _written(ports: Spans, proto: str = "tcp") -> str:
    words = "all" if ports == PORTS else port_words(ports).replace(",", ", ").replace(":", "-")
    return words if proto == "tcp" else f"{words} ({proto})"
