# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What listens on the ports of a host, and whom its firewall lets in. The probes of the receipts look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.openings import Stranger
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.network import find_openings
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Desired, Finding, Findings


def examine_listeners(desired: Desired, host: Host, findings: Findings) -> None:
    specs: list[tuple[str, dict[str, Any]]] = [
        ("listener", {"name": str(port), "networks": desired.networks}) for port in desired.listening.values()
    ]
    seen = observe(specs, host)
    findings.seen["listening"] = sorted(port for port in desired.listening.values() if seen[f"listener {port}"])
    for what, port in desired.listening.items():
        value = seen[f"listener {port}"]
        if value is None:
            findings.add(f"port {port}", f"nothing listens there, declared is {what}", desired.again)
        elif "error" in value:
            findings.add(f"port {port}", f"cannot be looked at ({value['error']})", desired.again)
        elif not value["heard"]:
            callers = ", ".join(desired.networks) or "other hosts"
            findings.add(
                f"port {port}",
                f"{what} listens at {', '.join(value['at'])} alone, where {callers} cannot reach it",
                f"Correct the address in its configuration, or: {desired.again}",
            )


def examine_firewall(desired: Desired, host: Host, findings: Findings) -> None:
    """What the receipt of role firewall looks at, by the same probes."""
    specs: list[tuple[str, dict[str, Any]]] = [
        ("ufw", {"name": "status"}),
        ("chain", {"name": "DOCKER-USER", "forwarded": True}),
    ]
    seen = observe(specs, host)
    status, chain = seen["ufw status"], seen["chain DOCKER-USER"]
    if status is None or "error" in status or not status["enabled"]:
        reason = "" if status and "error" not in status else f" ({status['error'] if status else 'it is not there'})"
        findings.add("ufw", f"is not active{reason}", desired.again)
    elif status["default_incoming"] not in ("deny", "reject"):
        findings.add("ufw", f"lets in by default ({status['default_incoming']})", desired.again)
    if desired.node:
        for problem in judge_chain(chain, desired):
            findings.problems.append(problem)
    if not desired.firewall_policy:
        return
    try:
        found, closed = find_openings(desired.firewall_policy, host)
    except Exception as error:
        findings.add("firewall", f"its rules cannot be looked at ({error})", desired.again)
        return
    for one in found:
        remedy = desired.again
        if isinstance(one, Stranger):
            remedy = f"Change the bridge: {one.remedy}."
        elif one.remedy:
            remedy = f"Undo it ({one.remedy}), declare it in firewall_extra_rules, or set firewall_exclusive: true."
        findings.add("firewall", str(one), remedy)
    for shut in closed:
        findings.add(
            "firewall", str(shut), f"See the rules of others in front of it (iptables -S, ufw status). {desired.again}"
        )


def judge_chain(chain: Mapping[str, Any] | None, desired: Desired) -> Iterator[Finding]:
    """Whether role firewall's chain governs what Docker publishes. None: there is no DOCKER-USER at all."""
    remedy = f"ufw reload, or: {desired.again}"
    if chain and "error" in chain:
        yield Finding("chain DOCKER-USER", f"cannot be looked at ({chain['error']})", remedy)
        return
    for family, command in (("v4", "iptables"), ("v6", "ip6tables")):
        if "-j gpustead-forward" not in ((chain or {}).get(family) or ()):
            yield Finding(f"{command} chain DOCKER-USER", "does not govern published ports", remedy)
        elif family in (chain or {})["bypassed"]:
            yield Finding(f"{command} chain DOCKER-USER", "is not what forwarded packets pass first", remedy)
