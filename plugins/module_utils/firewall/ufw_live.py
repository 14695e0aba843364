# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel filters by, against what ufw keeps in its files: found, and brought back without cutting SSH."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.bans import is_ban
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import (
    Chains,
    accepts,
    bypassed,
    parse_save,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import EVERY, Spans
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run
from ansible_collections.gpustead.cluster.plugins.module_utils.run import must

Read = Callable[[str], str]
Protected = Mapping[str, Spans]

MARKER = "gpustead: what Docker publishes"
DOCKER_USER = "DOCKER-USER"
OWN_CHAINS = ("gpustead-forward", DOCKER_USER)
# As ufw puts them, in this order.
STAGES = ("before-logging", "before", "after", "after-logging", "reject", "track")
_BLOCK = re.compile(rf"^# BEGIN {MARKER}\n(.*?)^# END {MARKER}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Family:
    """IPv4 or IPv6: its short name, the command, and what ufw adds to the names of its files and chains."""

    name: str
    command: str
    suffix: str

    def jumps(self, way: str) -> list[str]:
        return [f"-A {way} -j ufw{self.suffix}-{stage}-{way.lower()}" for stage in STAGES]


FAMILIES = (Family("v4", "iptables", ""), Family("v6", "ip6tables", "6"))
WAYS = ("INPUT", "OUTPUT", "FORWARD")


@dataclass(frozen=True)
class Stale:
    """The chains of one family that are not as they should be.

    `restore` puts jumps back that a reload of ufw would not, before it; `strays` are rules to take out after it.
    """

    family: Family
    chains: tuple[str, ...]
    restore: str
    strays: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.family.command}: {', '.join([*self.chains, *(f'-A INPUT {rule}' for rule in self.strays)])}"


def setting(text: str, name: str) -> str:
    """An assignment in a file that a shell reads."""
    found = re.findall(rf"^{name}=[\"']?([^\"'\s]*)", text, re.MULTILINE)
    return found[-1] if found else ""


def is_enabled(read: Read) -> bool:
    return setting(read("/etc/ufw/ufw.conf"), "ENABLED").lower() == "yes"


def chain(save: str, name: str) -> list[str]:
    """A chain in the output of iptables-save, without counters; nothing where there is none."""
    lines = [line.partition(" [")[0] for line in save.splitlines() if line.startswith(f":{name} ")]
    return lines + [line for line in save.splitlines() if line.startswith(f"-A {name} ")]


def kept(read: Read, family: Family) -> tuple[str, list[str]]:
    """What ufw loads of the chains that concern us, and their names."""
    block = _BLOCK.search(read(f"/etc/ufw/after{family.suffix}.rules"))
    names = [f"ufw{family.suffix}-user-{way.lower()}" for way in WAYS]
    names += OWN_CHAINS if block else ()
    return read(f"/etc/ufw/user{family.suffix}.rules") + (block.group(1) if block else ""), names


def printed(run: Run, family: Family, text: str) -> str:
    """The text as iptables-save prints it: loaded in a network namespace that ends with the command.

    Spellings (10.0.0.1 and 10.0.0.1/32, the order of options) are then none of our business. Where there can be no
    namespace nothing is loaded at all.
    """
    script = f"{family.command}-restore --noflush && {family.command}-save -t filter"
    return must(run, ["unshare", "--net", "sh", "-c", script], text)


def disordered(save: str, family: Family) -> list[str]:
    """The built-in chains in which a jump of ufw's is missing or out of order.

    ufw makes the jumps when it makes its chains, and never again: a reload would set the policy to DROP without them.
    """
    return [way for way in WAYS if _jumps(save, family, way) != family.jumps(way)]


def _jumps(save: str, family: Family, way: str) -> list[str]:
    return [line for line in chain(save, way) if line in family.jumps(way)]


def jumps_back(save: str, family: Family, docker: bool = False) -> str:
    """Takes ufw's jumps out and puts them in again, at once; what others have in these chains stays.

    With `docker` the jump to DOCKER-USER comes first in FORWARD again.
    """
    lines: list[str] = []
    if docker:
        lines += ["-D FORWARD -j DOCKER-USER"] * chain(save, "FORWARD").count("-A FORWARD -j DOCKER-USER")
        lines.append("-I FORWARD 1 -j DOCKER-USER")
    for way in disordered(save, family):
        wanted = family.jumps(way)
        lines += [
            f":{jump.rpartition(' ')[2]} - [0:0]" for jump in wanted if f":{jump.rpartition(' ')[2]} " not in save
        ]
        lines += [jump.replace("-A", "-D", 1) for jump in _jumps(save, family, way)]
        lines += wanted
    return "\n".join(["*filter", *sorted(lines, key=lambda line: line[0] != ":"), "COMMIT", ""]) if lines else ""


def observe(
    run: Run, read: Read, input_accepts: Sequence[str] | None = None, protected: Protected = EVERY
) -> list[Stale]:
    """What is not in force as the files say.

    Of a ufw that is not enabled the jumps alone count: to enable it with its old chains there would not make them.

    Args:
        input_accepts: the rules ("v4 -s 10.0.0.1/32 -j ACCEPT") that may stand in INPUT itself; None: any.
        protected: by family, the sources that nobody may shut out: bans of others stay.
    """
    defaults, enabled = read("/etc/default/ufw"), is_enabled(read)
    found = []
    for family in FAMILIES:
        if family.suffix and (
            setting(defaults, "IPV6").lower() != "yes" or run(["ip6tables", "-L", "INPUT", "-n"], "")[0]
        ):
            continue  # as ufw itself decides
        live = must(run, [f"{family.command}-save", "-t", "filter"], "")
        chains = disordered(live, family) if enabled or f":ufw{family.suffix}-before-input " in live else []
        docker, strays = False, []
        if enabled:
            text, names = kept(read, family)
            wanted = printed(run, family, text)
            chains += _others(live, wanted, names, protected[family.name])
            chains += _unlike_ufw(live, defaults, family)
            docker = "DOCKER-USER" in names and bypassed(parse_save(live))
            chains += ["FORWARD"] if docker else []
            if input_accepts is not None:
                strays = [rule for rule in accepts(parse_save(live)) if f"{family.name} {rule}" not in input_accepts]
        if chains or strays:
            restore = jumps_back(live, family, docker)
            found.append(Stale(family, tuple(dict.fromkeys(chains)), restore, tuple(strays)))
    return found


def _others(live: str, wanted: str, names: Sequence[str], protected: Spans) -> list[str]:
    """Of these chains those that are not as they should be. Bans that nobody has declared are no difference."""
    chains, found = parse_save(live), []
    for name in names:
        ours = chain(wanted, name)
        rest = [line for line in chain(live, name) if line in ours or not _is_ban(line, chains, protected)]
        found += [name] if rest != ours else []
    return found


def _is_ban(line: str, chains: Chains, protected: Spans) -> bool:
    return line.startswith("-A ") and is_ban(line.split(" ", 2)[-1], chains, protected)


def _unlike_ufw(live: str, defaults: str, family: Family) -> list[str]:
    """Chains of ufw's own that do not lead to its rules, and built-in ones with another policy."""
    chains, prefix = [], f"ufw{family.suffix}"
    for way in map(str.lower, WAYS):
        if f"-A {prefix}-before-{way} -j {prefix}-user-{way}" not in live.splitlines():
            chains.append(f"{prefix}-before-{way}")
    for way in ("INPUT", "OUTPUT"):  # FORWARD's policy is Docker's, too
        # A policy cannot be REJECT.
        policy = "ACCEPT" if setting(defaults, f"DEFAULT_{way}_POLICY") == "ACCEPT" else "DROP"
        if chain(live, way)[:1] != [f":{way} {policy}"]:
            chains.append(way)
    return chains


def heal(
    run: Run,
    read: Read,
    stale: Sequence[Stale],
    input_accepts: Sequence[str] | None = None,
    protected: Protected = EVERY,
) -> None:
    """Jumps first: with them in place a reload never leaves a policy without rules. Strays last: ufw then lets in.

    A reload empties DOCKER-USER. What others keep out there is put back.
    """
    bans = [(family, _bans(run, family, protected[family.name])) for family in FAMILIES]
    for one in stale:
        if one.restore:
            must(run, [f"{one.family.command}-restore", "--noflush"], one.restore)
    must(run, ["ufw", "reload"], "")
    for family, rules in bans:
        if rules:
            lines = ["*filter", *(f"-I {DOCKER_USER} {rule}" for rule in reversed(rules)), "COMMIT", ""]
            must(run, [f"{family.command}-restore", "--noflush"], "\n".join(lines))
    for one in stale:
        if one.strays:
            lines = ["*filter", *(f"-D INPUT {rule}" for rule in one.strays), "COMMIT", ""]
            must(run, [f"{one.family.command}-restore", "--noflush"], "\n".join(lines))
    left = observe(run, read, input_accepts, protected)
    if left:
        raise GpusteadError(
            f"after a reload of ufw the kernel still has other rules ({'; '.join(map(str, left))})",
            "those in /etc/ufw",
            "Find what else writes to these chains (a script, another firewall) and stop it.",
        )


def _bans(run: Run, family: Family, protected: Spans) -> list[str]:
    """What others keep out in DOCKER-USER; nothing without IPv6 in the kernel."""
    if protected in EVERY.values():
        return []
    code, save, _err = run([f"{family.command}-save", "-t", "filter"], "")
    chains = parse_save(save) if code == 0 else {}
    return [rule for rule in chains.get(DOCKER_USER, ("", []))[1] if is_ban(rule, chains, protected)]
