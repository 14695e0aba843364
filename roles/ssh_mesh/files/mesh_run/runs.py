# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The runs that there are: of one's own on all nodes, and of all accounts for root."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mesh_run import accounts, head, places, processes
from mesh_run.request import Refused

_WAIT = 20.0  # seconds for a run to end on a node


def here() -> Iterator[dict[str, Any]]:
    """What runs of this account on this node: as its agents wrote it, which hold a lock while they live."""
    for path in sorted((places.own() / "runs").glob("*/record.json")):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text())
            if isinstance(record, dict) and _locked(path):
                yield record


def _locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop_here(names: Sequence[str]) -> list[str]:
    """End these runs of this account on this node, and return the names of those of which something was there."""
    found = []
    for record in here():
        if record["id"] in names or "all" in names:
            found.append(record["id"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(record["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline and any(record["id"] in found for record in here()):
        time.sleep(0.1)
    # Of one whose agent was killed, its ranks are known by their mark alone.
    for name in {*names, *found} - {"all"}:
        if processes.of_run(name):
            found.append(name)
            processes.end(partial(processes.of_run, name))
    return sorted(set(found))


def show() -> int:
    """`mesh-run ps`: one line for each run of one's own; root's: of all."""
    if os.geteuid() == 0:
        return _as_each(["ps"])
    answers = head.on_all(["ps-here"])
    runs: dict[str, dict[str, Any]] = {}
    for code, said in answers.values():
        for line in said.splitlines() if code == 0 else ():
            record = json.loads(line)
            runs.setdefault(record["id"], record)
    for record in sorted(runs.values(), key=lambda record: record["started"]):
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"]))
        ranks = f"{record['ranks']} ranks on {', '.join(record['nodes'])}"
        what = shlex.join(record["command"])[:100]
        print(f"{record['id']}  {places.account()}  since {since}  {ranks}  {record['rendezvous']}  {what}")
    return _unanswered(answers)


def stop(names: Sequence[str]) -> int:
    """`mesh-run stop ID… | all`. Raises Refused where there is no such run."""
    if os.geteuid() == 0:
        return _as_each(["stop", *names])
    answers = head.on_all(["stop-here", *names])
    stopped: dict[str, list[str]] = {}
    for node, (code, said) in answers.items():
        for name in said.split() if code == 0 else ():
            stopped.setdefault(name, []).append(node)
    for name, where in stopped.items():
        print(f"{name}: stopped on {', '.join(where)}")
    missing = [name for name in names if name not in stopped and name != "all"]
    status = _unanswered(answers)
    if missing:
        raise Refused(f"no run of yours is called {', '.join(missing)}: see mesh-run ps")
    return status


def _unanswered(answers: dict[str, tuple[int, str]]) -> int:
    silent = [f"{name}: {said}" for name, (code, said) in answers.items() if code]
    for line in silent:
        head.say(line)
    return 1 if silent else 0


def _as_each(words: Sequence[str]) -> int:
    """As each account that has the mesh: root has no key of its own. One that never started a run has none, either."""
    status = 0
    for account in accounts.current():
        ids = ["--reuid", str(account.uid), "--regid", str(account.gid), "--init-groups"]
        environment = {"HOME": f"/home/{account.name}", "USER": account.name, "PATH": os.environ["PATH"]}
        ours = ["setpriv", *ids, "--inh-caps=-all", sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), *words]
        key = ["setpriv", *ids, "test", "-e", f"/home/{account.name}/{places.KEY}"]
        if subprocess.run(key, env=environment, check=False).returncode == 0:
            done = subprocess.run(ours, env=environment, stdin=subprocess.DEVNULL, check=False)
            # That another has no run of that name says nothing.
            status = status or (done.returncode if words[0] == "ps" else 0)
    return status
