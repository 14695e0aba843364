# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of ufw as values: read `ufw show added`, plan, and never cut the SSH session that asks for it."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import sshd_ports
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

TAG = "gpustead: "
ACTIONS = ("allow", "deny", "reject", "limit")
LOGS = ("log", "log-all")
PROTOCOLS = ("any", "tcp", "udp", "ah", "esp", "gre", "ipv6", "igmp", "vrrp")
_PORT = r"\d{1,5}(?::\d{1,5})?"
_PORTS = re.compile(rf"{_PORT}(?:,{_PORT})*\Z")


@dataclass(frozen=True)
class UfwRule:
    """One rule, in the words of the ufw command. `app` holds a line we do not model (profiles)."""

    action: str
    direction: str = "in"
    interface: str = ""
    source: str = "any"
    source_port: str = ""
    destination: str = "any"
    port: str = ""
    proto: str = "any"
    app: str = ""
    comment: str = ""
    log: str = ""

    @property
    def ours(self) -> bool:
        return self.comment.startswith(TAG)

    def place(self) -> UfwRule:
        """What ufw holds to be the same rule: it replaces one that differs in action, logging or comment only."""
        return replace(self, action="", log="", comment="")

    def argv(self, *verbs: str) -> list[str]:
        words = ["ufw", *verbs, self.action, self.direction]
        words += ["on", self.interface] if self.interface else []
        words += [self.log] if self.log else []
        words += ["from", self.source] + (["port", self.source_port] if self.source_port else [])
        words += ["to", self.destination] + (["port", self.port] if self.port else [])
        words += ["proto", self.proto] if self.proto != "any" else []
        return words + (["comment", self.comment] if self.comment and "delete" not in verbs else [])

    def __str__(self) -> str:
        return self.app or shlex.join(self.argv())


@dataclass(frozen=True)
class Plan:
    add: tuple[UfwRule, ...]
    remove: tuple[UfwRule, ...]
    after: tuple[UfwRule, ...]  # the rules, in order, once the plan is carried out

    @property
    def changed(self) -> bool:
        return bool(self.add or self.remove)


def address(text: str) -> str:
    """The form in which ufw keeps an address or network: no host bits, no /32, `any`."""
    if text.lower() in ("any", "anywhere"):
        return "any"
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise GpusteadError(f"{text!r} in a firewall rule", "an address, a CIDR or 'any'", "Correct it.") from None
    if not network.prefixlen:  # ufw takes 0.0.0.0/0 for both families, and prints ::/0 like it
        return "any"
    return str(network.network_address if network.num_addresses == 1 else network)


def ports(text: str) -> str:
    """Ports and ranges in ascending order, comma-separated."""
    if not text:
        return ""
    if not _PORTS.match(text) or any(not 0 < int(port) < 65536 for port in re.split("[,:]", text)):
        raise GpusteadError(f"port {text!r} in a firewall rule", "ports as 22 or 22,8000:8010", "Correct it.")
    return ",".join(sorted(text.split(","), key=lambda part: int(part.split(":")[0])))


def parse_added(output: str) -> list[UfwRule]:
    """The rules in the output of `ufw show added`; a line we cannot model keeps its text in `app`."""
    return [_parse(line) for line in output.splitlines() if line.startswith("ufw ")]


def _parse(line: str) -> UfwRule:
    try:
        words = shlex.split(line)[1:]
    except ValueError:  # a quotation mark without its fellow
        words = line.split()[1:]
    given: dict[str, str] = {"action": words.pop(0)}
    if len(words) > 1 and words[-2] == "comment":
        given["comment"] = words[-1]
        words = words[:-2]
    if given["action"] not in ACTIONS:
        return UfwRule(app=line, action="", comment=given.get("comment", ""))
    if words and words[0] in ("in", "out"):
        given["direction"] = words.pop(0)
    unknown = UfwRule(app=line, **given)
    if len(words) > 1 and words[0] == "on":
        given["interface"], words = words[1], words[2:]
    if words and words[0] in LOGS:
        given["log"] = words.pop(0)
    if len(words) == 1:  # the short form: 22, 22/tcp, or a profile
        given["port"], _separator, proto = words.pop().partition("/")
        given["proto"] = proto or "any"
    names = {"from": "source", "to": "destination", "proto": "proto"}
    end = "source_port"
    while len(words) > 1:
        word, value, words = words[0], words[1], words[2:]
        if word == "port":
            given[end] = value
        elif word in names:
            given[names[word]] = value
            end = {"from": "source_port", "to": "port"}.get(word, end)
        else:
            return unknown
    try:
        return normal(UfwRule(**given)) if not words else unknown
    except GpusteadError:
        return unknown


def normal(rule: UfwRule) -> UfwRule:
    """The rule as ufw itself would write it, so that declared and present rules compare."""
    return replace(
        rule,
        source=address(rule.source),
        destination=address(rule.destination),
        source_port=ports(rule.source_port),
        port=ports(rule.port),
        comment=rule.comment.replace("'", ""),
    )


def plan(present: Sequence[UfwRule], declared: Iterable[UfwRule]) -> Plan:
    """Add what is missing, remove what bears our tag and is not declared, leave everything else.

    A rule of somebody else at the same place is taken over: `ufw show added` prints one for IPv6 alone like
    one for both families, so only our own are relied upon. Denials go in front: behind an allowance they do
    nothing.
    """
    wanted = {rule.place(): rule for rule in declared}
    add = tuple(rule for rule in wanted.values() if rule not in present)
    remove = tuple(rule for rule in present if rule.ours and rule.place() not in wanted)
    new = {rule.place(): rule for rule in add}
    after = [new.pop(rule.place(), rule) for rule in present if rule not in remove]
    for rule in new.values():
        after.insert(0 if rule.action in ("deny", "reject") else len(after), rule)
    return Plan(add, remove, tuple(after))


def admits(rules: Iterable[UfwRule], source: str, port: int) -> bool:
    """Whether the rules surely let a TCP connection from `source` to `port` in; the default is to deny."""
    peer = ipaddress.ip_address(source)
    for rule in rules:
        if rule.direction != "in" or not rule.action:
            continue
        # What depends on things we do not know may deny, but is not relied upon to allow.
        vague = bool(rule.app or rule.interface or rule.source_port or rule.destination != "any")
        denies = rule.action in ("deny", "reject")
        if (vague and not denies) or not _covers(rule, peer, port):
            continue
        return not denies
    return False


def _covers(rule: UfwRule, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    if rule.app:
        return True
    if rule.proto not in ("any", "tcp"):
        return False
    if rule.source != "any" and peer not in ipaddress.ip_network(rule.source):
        return False
    spans = [part.partition(":") for part in rule.port.split(",") if part]
    return not spans or any(int(low) <= port <= int(high or low) for low, _second, high in spans)


@dataclass(frozen=True)
class Session:
    """The SSH session through which we are asked: where it comes from, the port it came in by."""

    source: str
    port: int


def find_session(environ: Mapping[str, str], pid: int, read: Callable[[str], str]) -> Session | None:
    """Read SSH_CONNECTION here or, where sudo took it away, in the parent processes (`read` reads /proc)."""
    text = environ.get("SSH_CONNECTION", "")
    while not text and pid > 1:
        pairs = (entry.partition("=") for entry in read(f"/proc/{pid}/environ").split("\0"))
        text = next((value for name, _second, value in pairs if name == "SSH_CONNECTION"), "")
        parent = re.search(r"^PPid:\s*(\d+)", read(f"/proc/{pid}/status"), re.MULTILINE)
        pid = int(parent.group(1)) if parent else 0
    words = text.split()
    try:
        client, port = ipaddress.ip_address(words[0].partition("%")[0]), int(words[3])
    except (IndexError, ValueError):  # there is none, or it comes by no network, and no firewall is in its way
        return None
    mapped = getattr(client, "ipv4_mapped", None)
    return Session(str(mapped or client), port)


def ssh_ports(run: Run, session: Session | None, fallback: int) -> tuple[int, ...]:
    """The ports by which this host is administered: the session's, and sshd's."""
    found = sshd_ports.observe(run) | ({session.port} if session else set())
    return tuple(sorted(found or {fallback}))


def ssh_rules(numbers: Iterable[int], sources: Iterable[str], session: Session | None) -> list[UfwRule]:
    """SSH from the declared sources, and always from where this session comes."""
    rules = [
        normal(UfwRule("allow", source=source, port=str(number), proto="tcp", comment=f"{TAG}ssh"))
        for number in numbers
        for source in sources
    ]
    if session and not admits(rules, session.source, session.port):
        rule = UfwRule("allow", source=session.source, port=str(session.port), proto="tcp")
        rules.append(replace(rule, comment=f"{TAG}ssh of the controller"))
    return rules


def guard(rules: Sequence[UfwRule], session: Session | None, numbers: Iterable[int]) -> None:
    """Refuse rules under which we could not come back."""
    if session and not admits(rules, session.source, session.port):
        culprit = next((rule for rule in rules if rule.action in ("deny", "reject")), None)
        raise GpusteadError(
            f"SSH from {session.source} to port {session.port}",
            "an allowing ufw rule that stands before any denying one" + (f", such as [{culprit}]" if culprit else ""),
            "Nothing was enabled; remove or narrow the denying rule.",
        )
    wanted = {str(number) for number in numbers}
    if not any(rule.action in ("allow", "limit") and wanted & set(rule.port.split(",")) for rule in rules):
        raise GpusteadError(
            f"SSH port {', '.join(sorted(wanted))}", "a ufw rule that allows it", "Set firewall_ssh_sources."
        )


def guard_ipv6(defaults: str, session: Session | None) -> None:
    """Refuse to enable a ufw that would close IPv6 altogether while we come over it.

    Args:
        defaults: the text of /etc/default/ufw; empty where ufw is yet to be installed.
    """
    off = re.search(r"^\s*IPV6=(?![\"']?yes\b)", defaults, re.MULTILINE | re.IGNORECASE)
    if off and session and ":" in session.source:
        raise GpusteadError(
            f"SSH from {session.source}, while /etc/default/ufw says IPV6=no",
            "IPV6=yes there, since ufw closes IPv6 otherwise",
            "Nothing was enabled; set it, or connect over IPv4.",
        )


def show_added(run: Run) -> list[UfwRule]:
    return parse_added(must(run, ["ufw", "show", "added"]))


def apply(run: Run, todo: Plan) -> None:
    """Carry the plan out: first what is allowed, then what goes."""
    for rule in todo.add:
        must(run, rule.argv(*(("prepend",) if rule.action in ("deny", "reject") else ())))
    for rule in todo.remove:
        must(run, rule.argv("delete"))
