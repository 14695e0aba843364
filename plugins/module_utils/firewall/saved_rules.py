# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules as iptables-save prints them and as ufw keeps them: read, and spelled alike. Pure."""

from __future__ import annotations

import re

# What role firewall calls its rules for SSH; "… of the controller" for where a run came from.
SSH = "gpustead: ssh"
Chains = dict[str, tuple[str, list[str]]]  # policy ("-" where there is none) and rules


def parse_save(text: str) -> Chains:
    chains: Chains = {}
    for line in text.splitlines():
        words = line.split(" ", 2)
        if line.startswith(":"):
            chains[words[0][1:]] = words[1], []
        elif words[0] == "-A":
            chains.setdefault(words[1], ("-", []))[1].append(words[2] if len(words) > 2 else "")
    return chains


def accepts(chains: Chains) -> list[str]:
    """What INPUT itself accepts, past ufw. Others have chains of their own there: these are not ours to judge."""
    return [rule for rule in chains.get("INPUT", ("", []))[1] if rule.endswith("-j ACCEPT")]


def bypassed(chains: Chains) -> bool:
    """Whether what Docker publishes does not pass DOCKER-USER first. Docker puts that jump there when it starts."""
    if "DOCKER" not in chains:
        return False  # Docker filters nothing here: IPv6 before version 27
    for rule in chains.get("FORWARD", ("", []))[1]:
        if rule == "-j DOCKER-USER":
            return False
        # The isolation between networks only drops.
        if re.search(r"-j (ACCEPT|DOCKER(?!-ISOLATION-)\S*)$", rule):
            break
    return True


def parse_kept(text: str) -> list[tuple[str, str, list[str]]]:
    """(rule in ufw's words, comment, the rules of the kernel for it without `-A`) of a user.rules."""
    kept: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("### tuple ### "):
            rule, _separator, comment = line[14:].partition(" comment=")
            try:
                decoded = bytes.fromhex(comment.strip()).decode(errors="replace")
            except ValueError:
                decoded = comment
            kept.append((rule.strip(), decoded, []))
        elif line.startswith("### "):
            if line.startswith("### END RULES"):
                break
        elif line.startswith("-A ") and kept:
            kept[-1][2].append(line[3:].strip())
    return kept


def normal(rule: str) -> str:
    """One spelling for what ufw writes and iptables-save prints: sorted options, no defaults, no loading of matches."""
    rule = re.sub(r" --name DEFAULT --mask [0-9a-f.:]+ --rsource\b", "", rule)
    rule = re.sub(r" --reject-with icmp6?-port-unreachable\b", "", rule)
    rule = re.sub(r"-m (tcp|udp|multiport) ", "", rule)
    rule = re.sub(r"(-[sd]) ([0-9.]+|[0-9a-f:]*:[0-9a-f:]*)(?= |$)", _network, rule)
    rule = re.sub(r"-[sd] (0\.0\.0\.0/0|::/0)( |$)", "", rule)
    target = rule.partition("-j ")
    options = re.findall(r"(?:! )?--?[a-z-]+(?: [^- ][^ ]*)*", target[0])
    return " ".join([*sorted(option.strip() for option in options), f"-j {target[2]}".strip()])


def _network(found: re.Match[str]) -> str:
    return f"{found.group(1)} {found.group(2)}/{128 if ':' in found.group(2) else 32}"


def delete_argv(rule: str) -> tuple[str, ...]:
    """The command that deletes a rule, from how ufw keeps it ("allow tcp 22 0.0.0.0/0 any 10.0.0.0/8 in")."""
    action, proto, port, destination, source_port, source, *rest = rule.split()
    apps = rest[:2] if len(rest) > 2 else ["-", "-"]
    routed, _separator, action = action.rpartition("route:")
    action, _separator, log = action.partition("_")
    words = ["ufw", *(["route"] if routed or rule.startswith("route:") else []), "delete", action]
    for way, _separator, interface in (part.partition("_") for part in rest[-1].split("!")):
        words += [way, "on", interface] if interface else [way] if not rule.startswith("route:") else []
    words += [log] if log else []
    for word, address, ports, app in (("from", source, source_port, apps[1]), ("to", destination, port, apps[0])):
        words += [word, "any" if address in ("0.0.0.0/0", "::/0") else address]
        words += ["app", app.replace("%20", " ")] if app != "-" else ["port", ports] if ports != "any" else []
    named = any(app != "-" for app in apps)
    return tuple(words + (["proto", proto] if proto != "any" and not named else []))
