# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Other firewalls beside ufw: what one of them drops stays out whatever ufw allows, and some put ufw's rules away.

Facts: nft(8), "accept" ends one chain alone and "drop" is final; nftables.service of Debian and Ubuntu flushes the
rules when it stops; netfilter-persistent(8) loads /etc/iptables in the place of what is there; xtables-nft(8), iptables
has its tables in nftables, or as xtables of their own ("legacy"), and each is passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

_FIREWALLD, _NFTABLES, _PERSISTENT = "firewalld.service", "nftables.service", "netfilter-persistent.service"
_SHOW = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", "--", _FIREWALLD, _NFTABLES, _PERSISTENT]
_STARTED = re.compile(r"^(?:ActiveState=active|UnitFileState=enabled.*)$", re.MULTILINE)
_FLUSH = re.compile(r"^\s*flush\s+ruleset\b", re.MULTILINE)
_LEGACY = "iptables-legacy tables present"
_PASSING = re.compile(r"[*:#].*|COMMIT")
_POLICY_DROPS = re.compile(r":(?:INPUT|FORWARD) DROP ")
_DROPPING = re.compile(r"type filter hook (?:input|forward) .*policy drop;")
# What iptables has there is ufw's and Docker's.
_OF_IPTABLES = re.compile(r"ip6? filter (?:INPUT|FORWARD)")
_ELSE = "or set firewall_enabled: false for this host and open the ports of docs/ports.md there"


@dataclass(frozen=True)
class OtherFirewalls:
    """What was observed.

    Attributes:
        units: those that run, or will after a boot.
        flushes: whether nftables.service empties the kernel's rules when it starts.
        saved: whether there are rules that netfilter-persistent loads.
        dropping: chains of nftables (family, table, chain) that packets pass on their way in or through, and that drop
            what they do not let in themselves.
        legacy: whether the tables of iptables that is not in use have rules.
    """

    units: tuple[str, ...] = ()
    flushes: bool = False
    saved: bool = False
    dropping: tuple[str, ...] = ()
    legacy: bool = False


def observe(run: Run, root: Path = Path("/")) -> OtherFirewalls:
    """Look at a host. `root` stands before each path."""
    _code, shown, _err = run(_SHOW)
    units = [unit for unit in shown.split("\n\n") if _STARTED.search(unit)]
    code, chains, _err = run(["nft", "list", "chains"])
    _code, version, _err = run(["iptables", "--version"])
    in_nftables = "(legacy)" not in version
    config = root / "etc/nftables.conf"
    return OtherFirewalls(
        tuple(name for unit in units for name in re.findall(r"^Id=(.+)$", unit, re.MULTILINE)),
        config.exists() and bool(_FLUSH.search(config.read_text(errors="replace"))),
        any((root / "etc/iptables" / name).exists() for name in ("rules.v4", "rules.v6")),
        tuple(dropping_chains(chains, in_nftables)) if code == 0 else (),
        in_nftables and _has_legacy(run),
    )


def _has_legacy(run: Run) -> bool:
    """Whether there are such rules. Their tables come into being where somebody asks for them, so nobody does first."""
    for command in ("iptables", "ip6tables"):
        _code, out, err = run([command, "-S", "INPUT"])
        if _LEGACY in (out + err).replace("ip6tables", "iptables"):
            _code, saved, _err = run([f"{command}-legacy-save", "-t", "filter"])
            lines = filter(None, map(str.strip, saved.splitlines()))
            if any(_POLICY_DROPS.match(line) or not _PASSING.fullmatch(line) for line in lines):
                return True
    return False


def dropping_chains(text: str, in_nftables: bool = True) -> Iterator[str]:
    """Those of `nft list chains` that drop by their policy, but for what iptables has made, where it is in nftables."""
    table = name = ""
    for line in map(str.strip, text.splitlines()):
        found = re.fullmatch(r"(table|chain) (.+) \{", line)
        if found and found[1] == "table":
            table = found[2]
        elif found:
            name = f"{table} {found[2]}"
        elif _DROPPING.search(line) and not (in_nftables and _OF_IPTABLES.fullmatch(name)):
            yield name


def refuse(found: OtherFirewalls) -> None:
    """Raise GpusteadError where another one governs the host, or would put ufw's rules away."""
    if _FIREWALLD in found.units:
        raise GpusteadError(
            "firewalld is enabled",
            "one firewall: what firewalld's zones do not let in stays out, whatever ufw allows",
            f"Leave it to ufw (systemctl disable --now firewalld), {_ELSE}.",
        )
    if _NFTABLES in found.units and found.flushes:
        raise GpusteadError(
            "nftables.service is enabled, and /etc/nftables.conf has 'flush ruleset'",
            "neither: whenever it starts, as at a boot, it would put the rules of ufw and of Docker away",
            "Take that line out (name your own tables instead), or run systemctl disable nftables (without --now: when "
            f"it stops it flushes, too), {_ELSE}.",
        )
    if _PERSISTENT in found.units and found.saved:
        raise GpusteadError(
            "netfilter-persistent is enabled, and /etc/iptables has rules",
            "no rules there: at a boot they would come in the place of ufw's, and apt takes the package away for ufw",
            "Move what is needed of them to firewall_extra_rules or /etc/ufw/before.rules, delete what is loaded of "
            f"them (iptables -S INPUT; iptables -D INPUT …), run systemctl disable netfilter-persistent, {_ELSE}.",
        )


def warnings(found: OtherFirewalls) -> list[str]:
    """What may keep out what ufw lets in; its rules are not read."""
    legacy = (
        "iptables-legacy has rules (iptables-legacy-save shows them), as a Docker from Snap leaves them until the next "
        "boot. What they drop stays out, whatever ufw and Docker allow: delete them, or reboot the host."
    )
    return [legacy] * found.legacy + [
        f"nftables has a chain of its own that drops what it does not let in ({chain}). Whoever is to reach the "
        "cluster's ports (docs/ports.md) needs a rule there as well, whatever ufw allows."
        for chain in found.dropping
    ]
