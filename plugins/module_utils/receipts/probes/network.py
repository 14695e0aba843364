# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The firewall: what ufw keeps, and what the kernel has of it. What others put there is theirs."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import docker_bridges, spans, sshd_ports
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import openings as filtered
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.bans import is_ban, protected_sources
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import (
    SSH,
    Chains,
    accepts,
    bypassed,
    delete_argv,
    normal,
    parse_kept,
    parse_save,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import docker
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
)

_FAMILIES = ("v4", "v6")
_SAVE = {"v4": "iptables-save", "v6": "ip6tables-save"}
_UFW = {"v4": "ufw", "v6": "ufw6"}  # how the names of ufw's chains begin
_FILES = {"v4": ("before.rules", "after.rules"), "v6": ("before6.rules", "after6.rules")}
_KEPT = {"v4": "/etc/ufw/user.rules", "v6": "/etc/ufw/user6.rules"}
_BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")
_WORDS = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}
# Options whose spelling does not differ between ufw's files and the kernel, up to what `normal` takes away.
_PLAIN = {"-s", "-d", "-p", "-i", "-o", "-j", "--dport", "--dports", "--sport", "--sports", "!"}


def _chains(family: str, host: Host) -> Chains:
    """The filter table, asked for once. Without IPv6 in the kernel there is nothing to filter."""
    if family == "v6" and not _has_ipv6(host):
        return {}
    return host.once(_SAVE[family], lambda host: parse_save(host.must([_SAVE[family], "-t", "filter"])))


def _has_ipv6(host: Host) -> bool:
    """Whether the kernel has IPv6: not with ipv6.disable=1, where ip6tables may not even answer."""
    return os.path.exists(host.path("/proc/net/if_inet6"))


def _settings(name: str, host: Host) -> dict[str, str]:
    """The assignments of a file that a shell reads."""
    found = re.findall(r"^\s*([A-Z0-9_]+)=(.*)$", host.text(name) or "", re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in found}


def _ufw(subject: Subject, host: Host) -> Value:
    """Its settings, and whether the kernel filters by them."""
    conf, defaults = _settings("/etc/ufw/ufw.conf", host), _settings("/etc/default/ufw", host)
    if not conf:
        return None
    families = _FAMILIES if defaults.get("IPV6", "no") == "yes" else _FAMILIES[:1]
    incoming, outgoing = (defaults.get(f"DEFAULT_{way}_POLICY", "") for way in ("INPUT", "OUTPUT"))
    # No chains: the kernel has no IPv6.
    ruled = {family: _chains(family, host) for family in families}
    return {
        "enabled": conf.get("ENABLED") == "yes",
        "default_incoming": _WORDS.get(incoming, incoming),
        "default_outgoing": _WORDS.get(outgoing, outgoing),
        "logging": conf.get("LOGLEVEL", ""),
        "kernel": [
            f"{family} {line}"
            for family, chains in ruled.items()
            for line in _in_force(family, chains, _protected(subject, host)[family], host)
        ],
        "accepts": [f"{family} {rule}" for family, chains in ruled.items() for rule in accepts(chains)],
    }


def _protected(subject: Subject, host: Host) -> Mapping[str, spans.Spans]:
    """By family, the sources that nobody may shut out; all of them where the subject does not say."""
    if "protected" not in subject:
        return spans.EVERY
    return protected_sources(subject["protected"], [host.text(name) or "" for name in _KEPT.values()])


def _in_force(family: str, chains: Chains, protected: spans.Spans, host: Host) -> list[str]:
    """What the kernel has of ufw: policies, its jumps in the built-in chains in their order, and its own chains.

    FORWARD's policy is Docker's, too. Of the chains with rules of ufw's users `_ufw_rules` judges one; in those that go
    out and through, what ufw does not keep so counts. The rest of them ufw fills at its next reload, or never.
    Bans come and go at any time.
    """
    prefix, lines = f"{_UFW[family]}-", []
    kept = [line for _first, _second, rules in parse_kept(host.text(_KEPT[family]) or "") for line in rules]
    for name, (policy, every) in sorted(chains.items()):
        rules = [rule for rule in every if not is_ban(rule, chains, protected)]
        if name in _BUILT_IN:
            lines += [f"{name} {policy}"] if name != "FORWARD" else []
            lines += [f"{name} {rule}" for rule in rules if rule.startswith(f"-j {prefix}")]
        elif name in (f"{prefix}user-output", f"{prefix}user-forward"):
            wanted = [line.partition(" ")[2] for line in kept if line.startswith(name + " ")]
            ours = set(map(normal, wanted))
            rules = [rule for rule in every if normal(rule) in ours or not is_ban(rule, chains, protected)]
            lines += [f"{name} {line}" for line in _unlike(wanted, rules)]
        elif name.startswith(prefix) and not name.startswith(f"{prefix}user-"):
            lines += [f"{name} {rule}" for rule in rules]
    return lines


def _unlike(wanted: Sequence[str], rules: Sequence[str]) -> list[str]:
    """Where the rules of the kernel differ from those that ufw keeps; of rules that are not plain only their number."""
    kept, live = ([rule for rule in map(normal, lines) if _is_plain(rule)] for lines in (wanted, rules))
    found = [f"not ufw's: {rule}" for rule in live if rule not in kept]
    found += [f"missing: {rule}" for rule in kept if rule not in live]
    others = len(rules) - len(live) - len(wanted) + len(kept)
    found += [f"{others:+d} other rules"] if others else []
    return found or ["in another order"] * (kept != live)


def _ufw_rules(subject: Subject, host: Host) -> Value:
    """Our rules in order, as ufw keeps them and as the kernel has them, with what is in the way of one.

    With `protected` (sources), a rule that keeps others out is in nobody's way.
    """
    value: dict[str, Any] = {}
    for family in _FAMILIES:
        protected = _protected(subject, host)[family]
        text = host.text(_KEPT[family])
        if text is None:
            return None
        chain = f"{_UFW[family]}-user-input"
        kept = parse_kept(text)
        ours = [comment.startswith(subject["name"]) for _first, comment, _third in kept]
        rules = [(f"{rule} # {comment}" if mine else rule, mine) for (rule, comment, _third), mine in zip(kept, ours)]
        value[family] = _in_order([(rule, mine, _verdict(rule)) for rule, mine in rules], protected)
        lines = {True: set(), False: set()}  # type: dict[bool, set[str]]
        for (_first, _second, filters), mine in zip(kept, ours):
            lines[mine] |= {normal(line.partition(" ")[2]) for line in filters if line.startswith(chain + " ")}
        live = []
        for rule in map(normal, _chains(family, host).get(chain, ("", []))[1]):
            mine = rule in lines[True]
            # Nobody's: ufw does not keep it. Only of plain rules can that be said for sure.
            stray = not mine and rule not in lines[False] and _is_plain(rule)
            stray = stray and not _elsewhere(rule, protected)
            live.append((f"not ufw's: {rule}" if stray else rule, mine or stray, _verdict(rule)))
        value[f"live_{family}"] = _in_order(live, protected)
    return value if any(value.values()) else None


def _in_order(rules: Iterable[tuple[str, bool, str]], protected: spans.Spans) -> list[str]:
    """Of (rule, ours, verdict) ours, and the others that stand before one of ours with another verdict."""
    result: list[str] = []
    after: set[str] = set()
    for rule, ours, verdict in reversed(list(rules)):
        if ours:
            after.add(verdict)
            result.append(rule)
        elif after - {verdict} and verdict and not _elsewhere(rule, protected):
            result.append(f"in front: {rule}")
    return result[::-1]


def _elsewhere(rule: str, protected: spans.Spans) -> bool:
    """Whether a rule only keeps out sources that nobody has to let in: a ban. Of ufw's words and of the kernel's."""
    words = rule.split()
    if _verdict(rule) != "deny" or "!" in words:
        return False
    if "-j" in words:
        source = words[words.index("-s") + 1] if "-s" in words else "any"
    else:
        source = words[5] if len(words) > 5 else "any"
    return not any(spans.common(ranges, protected) for ranges in spans.sources_of([source]).values())


def _verdict(rule: str) -> str:
    """allow or deny; nothing for a jump. Of ufw's words and of the kernel's."""
    if re.match(r"(allow|limit)(_|\b)", rule) or rule.endswith("-j ACCEPT"):
        return "allow"
    return "deny" if re.match(r"(deny|reject)(_|\b)", rule) or re.search(r"-j (DROP|REJECT)\b", rule) else ""


def _is_plain(rule: str) -> bool:
    return {word for word in rule.split() if word.startswith(("-", "!"))} <= _PLAIN and bool(_verdict(rule))


def _chain(subject: Subject, host: Host) -> Value:
    tables = {family: _chains(family, host) for family in _FAMILIES}
    rules = {family: chains.get(subject["name"]) for family, chains in tables.items()}
    protected = _protected(subject, host)
    value: dict[str, Any] = {
        family: found and [rule for rule in found[1] if not is_ban(rule, tables[family], protected[family])]
        for family, found in rules.items()
    }
    if not _has_ipv6(host):
        value["v6"] = value["v4"]  # nothing comes that way, so it is as well kept
    if subject.get("forwarded"):
        value["bypassed"] = [family for family, chains in tables.items() if bypassed(chains)]
    return value if any(rules.values()) else None


Found = Union[filtered.Origin, filtered.Stranger]


def find_openings(subject: Subject, host: Host) -> tuple[list[Found], list[filtered.Closing]]:
    """What the kernel lets in of the cluster's ports beyond what is declared, and what it keeps out of it.

    The subject has `rules` (as the module ufw_rules takes them), `ssh_sources`, `protected` (sources that nobody may
    shut out) and, where Docker's ports are governed, `published` (ports) and `published_to` (sources) with `bridges`.
    """
    # What is declared for one source port or address of the host says nothing of others: of these ufw keeps the rules.
    narrow = [rule for rule in subject.get("rules", []) if _narrowed(rule) != ("", "any")]
    policy = filtered.declared(rule for rule in subject.get("rules", []) if rule not in narrow)
    ssh, controllers = _ssh(subject, policy, host)
    protected = spans.sources_of([*subject.get("protected", []), *controllers])
    bridges = [*subject.get("bridges", []), *_named_bridges(subject, host), *_former_bridges(host)]
    to = {"from_ip": subject.get("published_to", []), "proto": "tcp"}
    published = filtered.declared({**to, "to_port": str(port)} for port in subject.get("published", []))
    open_: list[filtered.Opening] = []
    closed: list[filtered.Closing] = []
    for family in _FAMILIES:
        chains = _chains(family, host)
        if not chains and family == "v6":
            continue

        def judge(chains: Chains, family: str = family) -> tuple[list[filtered.Opening], list[filtered.Closing]]:
            found, shut = filtered.incoming(chains, family, [*policy, *ssh], protected[family])
            if "published" in subject:
                found += filtered.forwarded(chains, family, published, bridges)
            return found, shut

        found, shut = judge(chains)
        open_, closed = open_ + found, closed + shut
        # Rules behind these that would open the same once these are gone: all are named at once.
        while any(opening.rule for opening in found):
            chains = _without(chains, {(opening.chain, opening.rule) for opening in found})
            found = [opening for opening in judge(chains)[0] if opening.rule]
            open_ += found
    origins = [origin(opening, host) for opening in open_]
    kept = [one for one in origins if not one.kept or not _is_declared(one.kept, narrow)]
    return [*kept, *(strangers(bridges, host) if "published" in subject else ())], closed


def _named_bridges(subject: Subject, host: Host) -> list[str]:
    """The bridges of Docker's networks that have other names than is declared.

    A Docker that does not answer keeps nobody from looking at the rules: it is named by others.
    """
    found: list[str] = []
    if "published" in subject and docker.runs(host):
        with contextlib.suppress(Unreadable):
            found = docker.bridges(host)
    return docker_bridges.unmatched(found, subject.get("bridges", []))


def _former_bridges(host: Host) -> list[str]:
    """Names of bridges in the role's rules that no interface has any more: nobody comes in by them."""
    devices = host.path("/sys/class/net")
    there = set(os.listdir(devices)) if os.path.isdir(devices) else set()
    rules = [rule for family in _FAMILIES for rule in _chains(family, host).get("gpustead-forward", ("", []))[1]]
    named = (re.fullmatch(r"-i ([^\s+]+) -j RETURN", rule) for rule in rules)
    return sorted({one[1] for one in named if one} - there)


def _bridges(subject: Subject, host: Host) -> Value:
    """The bridges of Docker's networks beside those that are `known`, as iptables matches them."""
    if not docker.runs(host):
        return None
    return {"others": docker_bridges.unmatched(docker.bridges(host), subject.get("known", []))}


def strangers(patterns: Sequence[str], host: Host) -> list[filtered.Stranger]:
    """The bridges that these names, as iptables matches them, take for Docker's, and by which others come in.

    Docker names its own by an id, and puts nothing but its containers' ends into them.
    """
    found = []
    devices = host.path("/sys/class/net")
    for name in sorted(os.listdir(devices)) if patterns and os.path.isdir(devices) else ():
        matching = [pattern for pattern in patterns if docker_bridges.matches(name, pattern)]
        if not matching or not os.path.isdir(host.path(f"/sys/class/net/{name}/bridge")):
            continue
        ports = sorted(port for port in os.listdir(host.path(f"/sys/class/net/{name}/brif")) if _leads_out(port, host))
        if ports:
            found.append(filtered.Stranger(name, f"{', '.join(ports)} is in it"))
        elif name not in matching and name.startswith("br-") and not re.fullmatch("br-[0-9a-f]{12}", name):
            found.append(filtered.Stranger(name, "its name is not one that Docker gives"))
    return found


def _leads_out(port: str, host: Host) -> bool:
    """Whether an interface is a device of the machine, or what is made of one: a VLAN, a bond."""
    place = f"/sys/class/net/{port}"
    return os.path.exists(host.path(f"{place}/device")) or "DEVTYPE=" in (host.text(f"{place}/uevent") or "")


def _narrowed(rule: Mapping[str, Any]) -> tuple[str, str]:
    """The source ports and the address of the host that a rule is for."""
    return str(rule.get("from_port") or ""), str(rule.get("to_ip") or "any").lower()


def _is_declared(kept: str, narrow: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a rule of ours, as ufw keeps it, is one of these."""
    _first, _second, port, destination, source_port, source, *_rest = kept.split()
    here = source_port.replace("any", ""), "any" if destination in ("0.0.0.0/0", "::/0") else destination
    return any(
        _narrowed(rule) == here
        and spans.ports_of(str(rule.get("to_port") or "")) == spans.ports_of(port.replace("any", ""))
        and source in _kept_sources(rule)
        for rule in narrow
    )


def _kept_sources(rule: Mapping[str, Any]) -> set[str]:
    sources = rule.get("from_ip", ["any"])
    names = {str(name) for name in (sources.split(",") if isinstance(sources, str) else sources)}
    return names | ({"0.0.0.0/0", "::/0"} if "any" in names else set())


def _without(chains: Chains, gone: set[tuple[str, str]]) -> Chains:
    return {
        name: (policy, [rule for rule in rules if (name, rule) not in gone]) for name, (policy, rules) in chains.items()
    }


def _ssh(
    subject: Subject, policy: Sequence[filtered.AllowedPorts], host: Host
) -> tuple[list[filtered.AllowedPorts], list[str]]:
    """For SSH to the host itself, on the ports that the role found: what is declared, and controllers' addresses."""
    entries, controllers = [], []
    for family in _FAMILIES:
        for rule, comment, _third in parse_kept(host.text(_KEPT[family]) or ""):
            words = rule.split()
            if not comment.startswith(SSH) or len(words) < 6:
                continue
            # That somebody calls a rule so makes none of our ports SSH's: there sshd itself has to say it.
            ports = spans.ports_of(words[2])
            if any(entry.ports != spans.PORTS and spans.common(entry.ports, ports) for entry in policy):
                listens = host.once("sshd", lambda host: sshd_ports.observe(lambda argv: host.run(argv, 10)))
                if not {int(port) for port in re.findall(r"\d+", words[2])} <= listens:
                    continue
            here = [words[5]] * (comment != SSH)
            controllers += here
            sources = [*subject.get("ssh_sources", []), *here]
            entries += filtered.declared([{"from_ip": sources, "to_port": words[2], "proto": "tcp"}])
    return entries, controllers


def origin(opening: filtered.Opening, host: Host) -> filtered.Origin:
    """Whose rule it is: of ufw's users, of a file of ufw's, or somebody's in the kernel alone."""
    family, chain = opening.family, opening.chain
    prefix, command = _UFW[family], _SAVE[family][: -len("-save")]
    if opening.of_docker:
        return filtered.Origin(opening, "Docker's own rules, which are reached past gpustead-forward")
    if not opening.rule:
        return filtered.Origin(opening, f"the policy of {command}'s {chain}")
    line = _spelling(f"{chain} {opening.rule}")
    # iptables-save puts a backslash before each apostrophe, which is iptables's own way.
    argv = command, "-D", chain, *shlex.split(opening.rule.replace("\\'", "'"))
    if chain.startswith(f"{prefix}-user-"):
        for rule, comment, lines in parse_kept(host.text(_KEPT[family]) or ""):
            if line in map(_spelling, lines):
                words = delete_argv(rule)
                name = f"the rule of ufw [{shlex.join(word for word in words if word != 'delete')}]"
                # Ours is taken back by the role, once it is not declared.
                if comment.startswith("gpustead: "):
                    return filtered.Origin(opening, name, kept=rule)
                return filtered.Origin(opening, name, words)
    for name in _FILES[family]:
        path = f"/etc/ufw/{name}"
        for written in (host.text(path) or "").splitlines():
            if written.startswith("-A ") and _spelling(written[3:]) == line:
                return filtered.Origin(opening, f"{written.strip()!r} in {path}", argv, path, written)
    return filtered.Origin(opening, f"{command}: -A {chain} {opening.rule}", argv)


def _spelling(line: str) -> str:
    """Chain and rule, without comments: ufw writes them behind the target."""
    chain, _separator, rule = line.strip().partition(" ")
    comment = r""" -m comment --comment ("(\\.|[^"\\])*"|'[^']*'|\S+)"""
    return f"{chain} {normal(re.sub(comment, '', f' {rule}').strip())}"


def _openings(subject: Subject, host: Host) -> Value:
    found, closed = find_openings(subject, host)
    lines = [f"{one}{f' ({one.remedy})' if one.remedy else ''}" for one in found]
    return {"open": sorted(lines), "closed": sorted(map(str, closed))}


def listeners(text: str) -> dict[int, list[str]]:
    """Port to the addresses at which something listens, from `ss -Hltn`: "*" is any of both families."""
    found: dict[int, list[str]] = {}
    for words in map(str.split, text.splitlines()):
        address, _second, port = words[3].rpartition(":") if len(words) > 3 else ("", "", "")
        if port.isdigit():
            found.setdefault(int(port), []).append(address.partition("%")[0].strip("[]") or "*")
    return {port: sorted(set(addresses)) for port, addresses in found.items()}


def heard_at(addresses: Sequence[str], networks: Sequence[str]) -> bool:
    """Whether a listener at one of these addresses hears who calls from the networks.

    Without networks: whether it hears anybody outside the host. A host's address in a network of its own is heard by
    the others there.
    """
    wanted = [ipaddress.ip_network(network, strict=False) for network in networks]
    for text in addresses:
        if text == "*":
            return True
        address = ipaddress.ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_unspecified:
            if not wanted or any(network.version == address.version for network in wanted):
                return True
        elif not wanted:
            if not address.is_loopback and not address.is_link_local:
                return True
        elif any(network.version == address.version and address in network for network in wanted):
            return True
    return False


def listener(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    """What listens on TCP ports (`name`), and whether the `networks` reach it."""
    # Of these alone: accounts may listen on more than one list can say.
    asked = " or ".join(f"sport = :{int(subject['name'])}" for subject in subjects)
    ports = listeners(host.must(["ss", "-Hltn", asked]))

    def one(subject: Subject, _host: Host) -> Value:
        at = ports.get(int(subject["name"]))
        return None if at is None else {"at": at, "heard": heard_at(at, subject.get("networks", []))}

    return each(one)(subjects, host)


ufw = each(_ufw)
ufw_rules = each(_ufw_rules)
chain = each(_chain)
openings = each(_openings)
bridges = each(_bridges)
