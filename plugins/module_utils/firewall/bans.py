# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules by which others keep addresses out that the cluster does not need: fail2ban's, CrowdSec's, an administrator's.

They come and go at any time, in front of ours. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import SSH, Chains, parse_kept
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import EVERY, Spans, common, sources_of

_PASSING = ("RETURN", "LOG", "NFLOG")
_OWNED = re.compile(r"ufw6?-.+|gpustead-.+|DOCKER.*")  # these are judged themselves
_DEEP = 8


def is_ban(rule: str, chains: Chains, protected: Spans, depth: int = 0) -> bool:
    """Whether a rule, as `iptables -S` prints it without `-A` and chain, does nothing but keep out others.

    Args:
        rule: it may jump to a chain of somebody's that does no more.
        chains: the table.
        protected: sources of the rule's family that nobody may shut out; where these are all, nothing is a ban. Who is
            in a set is not known: nobody of these.
    """
    if protected in EVERY.values():
        return False
    words = rule.split()
    target = _after(words, "-j") or _after(words, "-g")
    if target in ("DROP", "REJECT"):
        return "!" not in words and ("--match-set" in words or _is_elsewhere(_after(words, "-s"), protected))
    if target not in chains or _OWNED.fullmatch(target) or depth > _DEEP:
        return False
    inner = chains[target][1]
    return all(_passes(one) or is_ban(one, chains, protected, depth + 1) for one in inner)


def protected_sources(networks: Iterable[str], kept: Iterable[str]) -> dict[str, Spans]:
    """By family, whom nobody may shut out: networks, and the controllers that came in.

    Args:
        networks: those of the cluster, as CIDRs.
        kept: texts of /etc/ufw/user.rules and user6.rules.
    """
    rules = [(rule.split(), comment) for text in kept for rule, comment, _lines in parse_kept(text)]
    controllers = [words[5] for words, comment in rules if comment.startswith(f"{SSH} ") and len(words) > 5]
    return sources_of([*networks, *controllers])


def _after(words: Sequence[str], option: str) -> str:
    return words[words.index(option) + 1] if option in words[:-1] else ""


def _is_elsewhere(source: str, protected: Spans) -> bool:
    return bool(source) and not any(common(spans, protected) for spans in sources_of([source]).values())


def _passes(rule: str) -> bool:
    return _after(rule.split(), "-j") in _PASSING
