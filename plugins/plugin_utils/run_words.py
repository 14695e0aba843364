# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Words for what happens in a run: names of hosts, and what tasks said, as a person may be shown it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

LONGEST = 4000  # characters of a line
LAST_LINES = 10  # of what a command printed
# Where a command or a module left its last words.
PRINTED = ("stderr", "module_stderr", "stdout", "module_stdout")
Found = Mapping[str, Any]


def names(hosts: Iterable[str], most: int = 0) -> str:
    """Names in their order, three and more with numbers in a row as the first and the last.

    Args:
        hosts: names of hosts.
        most: of these how many are named; 0 for all.
    """
    rows: list[list[str]] = []
    for host in sorted(hosts, key=natural):
        if rows and _follows(rows[-1][-1], host):
            rows[-1].append(host)
        else:
            rows.append([host])
    told = [part for row in rows for part in ([row] if len(row) > 2 else [[host] for host in row])]
    parts = [f"{shown(part[0])}-{shown(part[-1])}" if len(part) > 1 else shown(part[0]) for part in told]
    rest = sum(map(len, told[most:])) if most else 0
    return ", ".join([*parts[:most], f"and {rest} more"] if rest else parts)


def natural(name: str) -> list[tuple[int, str]]:
    """What puts gpu2 before gpu10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def _follows(one: str, other: str) -> bool:
    first, second = (re.fullmatch(r"(.*?)([0-9]+)(\D*)", name) for name in (one, other))
    if not first or not second or (first[1], first[3]) != (second[1], second[3]) or len(one) != len(other):
        return False
    return int(second[2]) == int(first[2]) + 1


def reasons(result: Found, items: Sequence[Found] = ()) -> list[str]:
    """Why a task failed, in lines that may be shown.

    Args:
        result: what the task returned.
        items: of a loop what those returned that failed.
    """
    return [line for item in items for line in _of_item(item)] or _reason(result)


def _of_item(item: Found) -> list[str]:
    first, *others = _reason(item)
    label = item.get("_ansible_item_label", item.get("item"))
    return [first if "censored" in item or label is None else f"{shown(label, 60)}: {first}", *others]


def _reason(result: Found) -> list[str]:
    if "censored" in result:
        return ["what it said is not shown (no_log)"]
    # ansible-core 2.19 has a reason where something could not be included.
    text = "\n".join(_texts(result.get("msg") or result.get("reason") or ""))
    lines = text.strip().removeprefix("Task failed: ").splitlines()
    printed = next((str(result[key]).strip() for key in PRINTED if str(result.get(key, "")).strip()), "")
    last = printed.splitlines()[-LAST_LINES:] if printed not in text else []
    if "non-zero return code" in text and "rc" in result:
        # Of a command the last words say more than Ansible's.
        lines = [": ".join([f"the command ended with {result['rc']}", *last[-1:]])]
        last = last if len(last) > 1 else []
    return [shown(line, LONGEST) for line in [*lines, *last]] or ["no reason was given"]


def _texts(said: Any) -> list[str]:
    return [str(one) for one in said] if isinstance(said, (list, tuple)) else [str(said)]


def sentence(said: Sequence[str]) -> str:
    """What stands for all of these lines: the first, with what it announces where that is one line."""
    first, *others = [line.strip() for line in said if line.strip()] or ["no reason was given"]
    if first.endswith(":") and len(others) == 1:
        return shown(f"{first} {others[0].removeprefix('- ')}")
    return shown(f"{first.rstrip(':')} …" if others else first)


def spoken(result: Found, dumped: str) -> list[str]:
    """What a task that speaks, such as debug, has to say, in lines: its `msg`, or else the whole as it was `dumped`."""
    said = _texts(result["msg"]) if isinstance(result.get("msg"), (str, list, tuple)) else [textwrap.dedent(dumped)]
    return [shown(line, LONGEST) for text in said for line in text.strip("\n").splitlines()]


def escaped(value: Any) -> Any:
    """A diff as it may be shown: each text in it line by line, since ends of lines are what it is about."""
    if isinstance(value, str):
        return "".join(part if part in "\n\t" else shown(part, len(part) * 10) for part in re.split(r"([\n\t])", value))
    if isinstance(value, Mapping):
        return {key: escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, (list, tuple)) else value
