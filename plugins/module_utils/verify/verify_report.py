# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was found on all hosts, compared and put into one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

LONGEST = 2000  # characters of what is wrong
# What must be the same wherever it is seen: key of what a host saw, and how it is called.
COMPARED = {"accounts": "account {}", "files": "file {}", "image": "image"}


def report(results: Mapping[str, Mapping[str, Any]], at: str = "", inventory: Sequence[str] = ()) -> dict[str, Any]:
    """One report of the results of node_verify, by host: summary, problems, what will be one, what was seen.

    Args:
        at: the time, in UTC.
        inventory: its sources: reports of several clusters may be written to one place.
    """
    problems = [problem for host in sorted(results) for problem in _own(host, results[host])]
    seen = {host: result["seen"] for host, result in results.items() if "seen" in result}
    reported = {problem["subject"] for problem in problems}
    problems += [problem for problem in _differences(seen) if problem["subject"] not in reported]
    problems += _wrong_answers(seen)
    hosts = f"{len(results)} host{'s' if len(results) != 1 else ''}"
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return {
        "ok": not problems,
        "at": at,
        "inventory": [*inventory],
        "summary": f"{count} on {hosts}" if problems else f"{hosts} as declared, no problems",
        "problems": problems,
        "lines": ["{host}: {subject} {what}. {remedy}".format(**problem) for problem in problems],
        "notices": _notices(results),
        "hosts": seen,
    }


def _notices(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What will be a problem, and what is to be known of GPUs, each once with all its hosts."""
    reported: dict[tuple[str, str], list[str]] = {}
    for host in sorted(results):
        said = [("soon", "{subject} {what}. {remedy}".format(**one)) for one in results[host].get("notices", ())]
        said += [("to know", text) for text in results[host].get("gpu_warnings", ())]
        for kind, text in said:
            reported.setdefault((kind, shown(" ".join(text.split()), LONGEST)), []).append(host)
    return [f"{kind}, {', '.join(hosts)}: {text}" for (kind, text), hosts in sorted(reported.items())]


def _problem(host: str, subject: str, what: str, remedy: str) -> dict[str, str]:
    texts = {"host": host, "subject": subject, "what": what, "remedy": remedy}
    # Here all that hosts, accounts and containers said comes together, and goes to a person.
    return {key: shown(" ".join(text.split()), LONGEST) for key, text in texts.items()}


def _own(host: str, result: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A host's own problems. One that could not be looked at is a problem as well."""
    if "seen" not in result:
        words = " ".join(str(result.get(key) or "") for key in ("msg", "module_stderr")).split()
        reason = " ".join(words)[:400] or "no result"
        what = "cannot be reached" if result.get("unreachable") else "cannot be examined"
        yield _problem(host, "host", f"{what} ({reason})", f"See that it is up: ansible -m ping {host}")
    for problem in result.get("problems", ()):
        yield _problem(host, problem["subject"], problem["what"], problem["remedy"])


def _differences(seen: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    for key, name in COMPARED.items():
        tables = {host: found[key] for host, found in seen.items() if key in found}
        tables = {host: table if isinstance(table, Mapping) else {"": table} for host, table in tables.items()}
        for item in sorted({item for table in tables.values() for item in table}):
            holders: dict[str, list[str]] = {}
            for host, table in tables.items():
                holders.setdefault(str(table.get(item) or "missing"), []).append(host)
            if len(holders) > 1:
                values = "; ".join(f"{value} on {', '.join(hosts)}" for value, hosts in sorted(holders.items()))
                fewest = min(holders.values(), key=len)
                remedy = f"Run site.yml --limit {','.join(fewest)}, and see the share there."
                yield _problem(", ".join(fewest), name.format(item), f"differs: {values}", remedy)


def _wrong_answers(seen: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """A peer that is reached, but is another host."""
    for host, found in seen.items():
        for peer, answer in found.get("peers", {}).items():
            name = seen.get(peer, {}).get("hostname", "")
            if name and answer != name:
                subject = f"SSH to {peer} in the mesh"
                remedy = f"Correct the address of {peer} in the inventory, and run site.yml."
                yield _problem(host, subject, f"reaches {answer}, but {peer} is called {name}", remedy)
