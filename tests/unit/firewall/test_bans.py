"""Rules by which others keep addresses out: what is a ban, and that it stays and is no drift wherever it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_live
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.bans import is_ban, protected_sources
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import parse_save
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import EVERY
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.tests.unit.firewall.test_ufw_live import LIVE, Kernel

FIXTURES = Path(__file__).parents[1] / "fixtures" / "probes"
NODES = ["172.28.10.0/24", "fd00:28::/64"]
KEPT = "### tuple ### allow tcp 22 0.0.0.0/0 any 198.51.100.7 in comment={}\n"
CONTROLLER = KEPT.format(b"gpustead: ssh of the controller".hex())
PROTECTED = protected_sources(NODES, [CONTROLLER])

# Chains as fail2ban (iptables-multiport, -ipset, ufw), CrowdSec's bouncer, sshguard and DenyHosts' like make them.
CHAINS = parse_save(
    """:f2b-sshd - [0:0]
:f2b-none - [0:0]
:f2b-node - [0:0]
:CROWDSEC_CHAIN - [0:0]
:sshguard - [0:0]
:logged - [0:0]
:mixed - [0:0]
:deep - [0:0]
:ufw-reject-input - [0:0]
-A f2b-sshd -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -s 203.0.113.9/32 -j DROP
-A f2b-sshd -j RETURN
-A f2b-none -j RETURN
-A f2b-node -s 172.28.10.12/32 -j DROP
-A CROWDSEC_CHAIN -m set --match-set crowdsec-blacklists-0 src -j DROP
-A sshguard -m set --match-set sshguard4 src -j DROP
-A logged -m limit --limit 3/min -j LOG --log-prefix "ban "
-A logged -j f2b-sshd
-A mixed -s 203.0.113.7/32 -j DROP
-A mixed -s 203.0.113.8/32 -j ACCEPT
-A deep -j deep
"""
)
BANS = {
    "one address": ("-s 203.0.113.7/32 -j DROP", True),
    "a network of a country": ("-s 203.0.113.0/24 -j REJECT --reject-with icmp-port-unreachable", True),
    "for one port": ("-s 203.0.113.7/32 -p tcp -m tcp --dport 22 -j DROP", True),
    "fail2ban's chain": ("-p tcp -m multiport --dports 22,2222 -j f2b-sshd", True),
    "fail2ban's chain without any": ("-p tcp -j f2b-none", True),
    "CrowdSec's": ("-j CROWDSEC_CHAIN", True),
    "sshguard's": ("-j sshguard", True),
    "a set": ("-m set --match-set f2b-sshd src -j REJECT", True),
    "logged before": ("-j logged", True),
    "a node": ("-s 172.28.10.12/32 -j DROP", False),
    "a network with the nodes in it": ("-s 172.16.0.0/12 -j DROP", False),
    "the controller": ("-s 198.51.100.7/32 -j DROP", False),
    "a node in fail2ban's chain": ("-p tcp -j f2b-node", False),
    "everybody": ("-j DROP", False),
    "everybody, for one port": ("-p tcp -m tcp --dport 2222 -j DROP", False),
    "all but one": ("! -s 203.0.113.7/32 -j DROP", False),
    "all but a set": ("-m set ! --match-set friends src -j DROP", False),
    "who lets in": ("-s 203.0.113.7/32 -j ACCEPT", False),
    "who goes past us": ("-s 203.0.113.7/32 -j RETURN", False),
    "a chain that lets in": ("-j mixed", False),
    "a chain of ufw's": ("-j ufw-reject-input", False),
    "a chain that is not there": ("-j nowhere", False),
    "a chain without end": ("-j deep", False),
    "nothing": ("", False),
}


@pytest.mark.parametrize(("rule", "ban"), BANS.values(), ids=list(BANS))
def test_what_only_keeps_out_others_is_a_ban(rule: str, ban: bool) -> None:
    assert is_ban(rule, CHAINS, PROTECTED["v4"]) is ban
    assert not is_ban(rule, CHAINS, EVERY["v4"])


def test_of_both_families() -> None:
    assert is_ban("-s 2001:db8::7/128 -j DROP", {}, PROTECTED["v6"])
    assert not is_ban("-s fd00:28::12/128 -j DROP", {}, PROTECTED["v6"])


BAN, JUMP = "-s 203.0.113.7/32 -j DROP", "-p tcp -j f2b-sshd"
MINE = "-A DOCKER-USER -j gpustead-forward\n"


def banned(save: str, rule: str, before: str) -> str:
    chain = before.split()[1]
    return save.replace(before, f"-A {chain} {rule}\n{before}", 1).replace(
        "COMMIT\n", "-A f2b-sshd -s 203.0.113.7/32 -j DROP\n-A f2b-sshd -j RETURN\nCOMMIT\n"
    )


class Lab:
    """The probes of the receipt, on a host as its role left it."""

    def __init__(self, root: Path) -> None:
        self.save = (FIXTURES / "iptables-save.txt").read_text()
        self.root = root
        for name in ("user.rules", "user6.rules"):
            (root / "etc/ufw").mkdir(parents=True, exist_ok=True)
            (root / "etc/ufw" / name).write_text((FIXTURES / name).read_text())
        (root / "etc/ufw/ufw.conf").write_text("ENABLED=yes\nLOGLEVEL=low\n")
        (root / "etc/default").mkdir()
        (root / "etc/default/ufw").write_text("IPV6=no\n")

    def ask(self, save: str) -> list[Any]:
        asked: list[tuple[str, dict[str, Any]]] = [
            ("ufw", {"name": "status", "protected": NODES}),
            ("chain", {"name": "DOCKER-USER", "forwarded": True, "protected": NODES}),
        ]

        def run(argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
            return 0, save, ""

        return list(observe(asked, Host(str(self.root), b"salt", run)).values())


BEFORE = "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"


@pytest.mark.parametrize("rule", [BAN, JUMP])
@pytest.mark.parametrize("before", [MINE, BEFORE], ids=["DOCKER-USER", "ufw-before-input"])
def test_a_ban_is_no_drift(tmp_path: Path, rule: str, before: str) -> None:
    lab = Lab(tmp_path)
    assert before in lab.save
    assert lab.ask(banned(lab.save, rule, before)) == lab.ask(lab.save)
    node = "-s 172.28.10.12/32 -j DROP"
    assert lab.ask(banned(lab.save, node, before)) != lab.ask(lab.save)


@pytest.mark.parametrize("rule", [BAN, JUMP])
@pytest.mark.parametrize("before", [MINE, "-A ufw-user-input -p tcp"], ids=["DOCKER-USER", "ufw-user-input"])
def test_a_ban_makes_nothing_stale_and_outlives_a_reload(rule: str, before: str) -> None:
    live = banned(LIVE, rule, before)
    kernel = Kernel(live)
    assert ufw_live.observe(kernel.run, kernel.read, None, PROTECTED) == []
    # Something else is stale: the reload empties DOCKER-USER.
    kernel.live = live.replace(":INPUT DROP", ":INPUT ACCEPT")
    stale = ufw_live.observe(kernel.run, kernel.read, None, PROTECTED)
    assert [str(one) for one in stale] == ["iptables: INPUT"]
    ufw_live.heal(kernel.run, kernel.read, stale, None, PROTECTED)
    back = [data for command, data in kernel.done if command == "iptables-restore --noflush"]
    assert back == ([f"*filter\n-I DOCKER-USER {rule}\nCOMMIT\n"] if before == MINE else [])


def test_a_ban_of_one_of_the_clusters_own_is_taken_out() -> None:
    kernel = Kernel(banned(LIVE, "-s 172.28.10.12/32 -j DROP", MINE))
    stale = ufw_live.observe(kernel.run, kernel.read, None, PROTECTED)
    assert [str(one) for one in stale] == ["iptables: DOCKER-USER"]
    ufw_live.heal(kernel.run, kernel.read, stale, None, PROTECTED)
    assert [command for command, _data in kernel.done if "save" not in command] == ["ufw reload"]
