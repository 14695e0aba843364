# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names that nothing reads, which are silent otherwise: of variables, groups, tags and hosts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Problem

# Prefixes of ours that other collections have too: only a name that is close to one of ours is refused.
SHARED = ("base_", "client_", "docker_", "lab_", "nas_", "site_")
CLOSE = 0.8
FOREIGN = "cluster_foreign_variables"


def did_you_mean(name: str, known: Collection[str], otherwise: str = "") -> str:
    """A question for the name that was meant, or `otherwise` where none is like it."""
    folded = {one.lower(): one for one in sorted(known)}
    found = get_close_matches(name.lower(), folded, 1, 0.7)
    return f"Did you mean {folded[found[0]]}?" if found else otherwise


def likeness(one: str, other: str) -> float:
    """From 0 to 1."""
    return SequenceMatcher(None, one.lower(), other.lower(), autojunk=False).ratio()


def unknown_variables(
    names: Collection[str], known: Collection[str], prefixes: Collection[str], read: Collection[str]
) -> Iterator[Problem]:
    """Variables that look like ours and that nothing reads.

    Args:
        names: those of a host that are none of ours.
        known: ours.
        prefixes: with which ours begin.
        read: names that the values of others name: somebody meant them.
    """
    for name in sorted(set(names) - set(known) - set(read)):
        prefix = next((one for one in prefixes if name.startswith(one)), "")
        if prefix and prefix not in SHARED:
            remedy = did_you_mean(name, known, "Every setting with its default stands in group_vars/all.")
            what = f"nothing reads a variable of this name; where another collection does, add it to {FOREIGN}"
            yield Problem(name, what, remedy)
            continue
        meant = max(known, key=lambda one: (_closeness(name, one, prefix), one), default="")
        if meant and _closeness(name, meant, prefix) >= CLOSE:
            what = f"nothing of ours reads a variable of this name; where another collection does, add it to {FOREIGN}"
            yield Problem(name, what, f"Did you mean {meant}?")


def _closeness(name: str, one: str, prefix: str) -> float:
    if prefix:
        return likeness(name[len(prefix) :], one[len(prefix) :]) if one.startswith(prefix) else 0.0
    # Without a prefix of ours it has to be one with a slip of the pen in it.
    near = name[:1] == one[:1] and abs(len(name) - len(one)) <= 2
    return likeness(name, one) - 0.1 if near else 0.0


def near_groups(groups: Mapping[str, Sequence[str]], ours: Sequence[str]) -> dict[str, str]:
    """Groups with hosts that are missing from the group of ours that was meant: the name to that one."""
    found = {}
    for name, hosts in groups.items():
        if name in ours or not hosts:
            continue
        meant = next((one for one in ours if _plain(one) == _plain(name)), "")
        if not meant:
            best = max(ours, key=lambda one: likeness(name, one))
            meant = best if likeness(name, best) >= 0.85 else ""
        if meant and set(hosts) - set(groups.get(meant, ())):
            found[name] = meant
    return found


def _plain(name: str) -> str:
    """The name in the singular, without what people write between its words."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "".join(re.sub("s$", "", re.sub("ies$", "y", word)) for word in words)


def unknown_tags(asked: Mapping[str, Sequence[str]], known: Collection[str], only_close: bool) -> Iterator[Problem]:
    """Tags that no task has.

    Args:
        asked: by option of the command line.
        known: those that there are.
        only_close: refuse only what is close to one of them: others may have tasks in this run.
    """
    for option, tags in asked.items():
        for tag in tags:
            meant = did_you_mean(tag, known)
            if tag not in known and (meant or not only_close):
                yield Problem(option, f"no role has the tag {tag!r}", meant or f"There are {', '.join(sorted(known))}.")


def unknown_limits(limit: str, hosts: Collection[str], groups: Collection[str]) -> Iterator[Problem]:
    """Parts of --limit that name no host and no group; patterns are left to Ansible."""
    for part in filter(None, (text.strip() for text in re.split("[,;]", limit))):
        name = part.lstrip("!&")
        if re.search(r"[*?@~\[\]:/]", name) or name in hosts or name in groups or name in ("all", "localhost"):
            continue
        remedy = did_you_mean(name, [*hosts, *groups], "Add it to the inventory, or give the directory of its cluster.")
        yield Problem("--limit", f"{name!r} is no host and no group of this inventory", remedy)
