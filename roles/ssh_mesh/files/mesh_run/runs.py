# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The runs that there are: of one's own on all nodes, and of all accounts for root."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from mesh_run import accounts, agent, head, leavings, places, processes, service
from mesh_run.request import Refused

_WAIT = 6.0  # seconds for an agent to end its run on a node
_ANSWER, _SAID = 90.0, 1 << 18  # seconds, and bytes, of an account that root asks


def here() -> Iterator[dict[str, Any]]:
    """What runs of this account on this node: as its agents wrote it, which hold a lock while they live.

    One whose agent was killed runs as long as one of its ranks does; its `pid` is 0. What is left of those that are
    dead is removed.
    """
    leavings.remove_dead(agent.hold_port)
    alive = processes.runs()
    for path in sorted((places.own() / "runs").glob("*/record.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            record = json.loads(path.read_text())
            if _locked(path) or record["id"] in alive:
                yield {**record, "pid": int(record["pid"]) if _locked(path) else 0}
            else:
                _remove(path.parent, record)


def _remove(place: Path, record: Mapping[str, Any]) -> None:
    address, _colon, port = record["rendezvous"].rpartition(":")
    held = agent.hold_port(int(port))
    if held:  # else another run has it, and may have files of the same names
        pids = place / "pids"
        of_it = {int(line) for line in pids.read_text().split()} if pids.exists() else set()
        leavings.remove(address, int(port), of_it, float(record["started"]))
        shutil.rmtree(place, True)
        held.close()


def _locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop_here(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """End these runs of this account on this node; names of those that have ended, and of those that have not."""

    def chosen() -> list[dict[str, Any]]:
        return [record for record in here() if record["id"] in names or "all" in names]

    found = {record["id"] for record in chosen()} | {run for run in processes.runs() if run in names or "all" in names}
    _signal_agents(chosen(), signal.SIGTERM)
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline and any(record["pid"] for record in chosen()):
        time.sleep(0.1)
    # Of one whose agent was killed, or hangs, its ranks are known by their mark alone.
    for name in found:
        processes.end(partial(processes.of_run, name))
    _signal_agents(chosen(), signal.SIGKILL)
    chosen()  # removes what they left
    stays = found & processes.runs()
    return sorted(found - stays), sorted(stays)


def _signal_agents(records: Sequence[Mapping[str, Any]], number: signal.Signals) -> None:
    for record in records:
        if record["pid"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record["pid"], number)


def show() -> int:
    """`mesh-run ps`: one line for each run of one's own; root's: of all."""
    if os.geteuid() == 0:
        return _as_each(["ps"])
    answers = head.on_all(["ps-here"])
    runs: dict[str, dict[str, Any]] = {}
    for code, said in answers.values():
        for line in said.splitlines() if code == 0 else ():
            with contextlib.suppress(ValueError, LookupError, TypeError):  # a shell may say something, too
                record = json.loads(line)
                runs.setdefault(record["id"], record)
    for record in sorted(runs.values(), key=lambda record: record["started"]):
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"]))
        ranks = f"{record['ranks']} ranks on {', '.join(record['nodes'])}"
        what = shlex.join(record["command"])[:100]
        print(places.shown(f"{record['id']}  since {since}  {ranks}  {record['rendezvous']}  {what}", 1000))
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


def show_all_here() -> int:
    """For root, which drains the node: a line of JSON for each run of all accounts here, and a last one."""
    for account, code, said in _of_present(["ps-here"]):
        for record in _records(said) if code == 0 else ():
            print(json.dumps({**record, "account": account.name}))
        if code:
            print(json.dumps({"account": account.name, "error": places.shown((said or ["no answer"])[-1])}))
    print(json.dumps({"end": True}))  # an earlier release says nothing at all
    return 0


def stop_all_here() -> int:
    """Likewise: end the runs of all accounts here; of those that do not do it themselves, all that they have here."""
    _of_present(["stop-here", "all"])
    for account, code, said in _of_present(["ps-here"]):
        if code or _records(said):
            head.say(f"{account.name} has not ended its runs: all that it has in the mesh here is ended")
            service.end_all(account.uid)
    return 0


def _records(said: Sequence[str]) -> list[dict[str, Any]]:
    """Of what an account says the runs."""
    found: list[dict[str, Any]] = []
    for line in said:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            found += [record] if isinstance(record, dict) else []
    return found


def _of_present(words: Sequence[str]) -> list[tuple[accounts.Account, int, list[str]]]:
    """What each account says that has processes here: (account, exit status, lines)."""
    present = processes.owners()
    try:
        people = [account for account in accounts.current() if account.uid in present]
    except (OSError, ValueError) as error:
        raise Refused(f"{accounts.LIST}: {places.shown(error)}") from None
    argv = [sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), *words]
    with ThreadPoolExecutor(8) as pool:
        said = pool.map(lambda account: _as_account(account, argv), people)
        return [(account, *answer) for account, answer in zip(people, said)]


def _unanswered(answers: dict[str, tuple[int, str]]) -> int:
    silent = [f"{name}: {said}" for name, (code, said) in answers.items() if code]
    for line in silent:
        head.say(line)
    return 1 if silent else 0


def _as_each(words: Sequence[str]) -> int:
    """As each account that has the mesh: root has no key of its own. One that never started a run has none, either."""
    present = processes.owners()
    try:
        people = accounts.current()
    except (OSError, ValueError) as error:
        raise Refused(f"{accounts.LIST}: {places.shown(error)}") from None
    codes = []
    with ThreadPoolExecutor(8) as pool:
        for account, answer in zip(people, pool.map(partial(_ask, words=words), people)):
            code, said = answer
            if code is None and account.uid in present:
                head.say(
                    f"{account.name} has processes here, and no key by which other nodes could be asked for its runs"
                )
            codes += [] if code is None else [code]
            # That another has no run of that name says nothing.
            for line in said if words[0] == "ps" or code == 0 else ():
                print(f"{account.name}: {places.shown(line, 1000)}")
    if words[0] == "ps":
        return next(filter(None, codes), 0)
    if "all" not in words and 0 not in codes:
        raise Refused(f"no run is called {', '.join(words[1:])}, or its nodes do not answer: see mesh-run ps")
    return 0


def _ask(account: accounts.Account, words: Sequence[str]) -> tuple[int | None, list[str]]:
    if _as_account(account, ["test", "-e", f"/home/{account.name}/{places.KEY}"])[0]:
        return None, []
    return _as_account(account, [sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), *words])


def _as_account(account: accounts.Account, words: Sequence[str]) -> tuple[int, list[str]]:
    """What a command says that runs as it; its exit status, 124 where it took too long.

    It gets nothing of root's terminal, by which it could type there, and neither its time nor what it says is without
    an end.
    """
    ids = ["--reuid", str(account.uid), "--regid", str(account.gid), "--init-groups"]
    environment = {"HOME": f"/home/{account.name}", "USER": account.name, "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        ["setpriv", *ids, "--inh-caps=-all", *words],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as child:
        assert child.stdout
        said, deadline = b"", time.monotonic() + _ANSWER
        while len(said) < _SAID:
            ready, _write, _other = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(child.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                break
            said += data
        try:
            code = child.wait(max(0.0, deadline - time.monotonic()) if len(said) < _SAID else 0)
        except subprocess.TimeoutExpired:
            code = 124
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    lines = said.decode("utf-8", "replace").splitlines()
    return code, [*lines, f"no answer within {_ANSWER:.0f} s"] if code == 124 else lines
