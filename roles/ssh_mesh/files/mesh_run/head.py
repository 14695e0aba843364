# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run, from its first node: asks all nodes, has them start, passes on what they say, and ends it everywhere."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

from mesh_run import places, states
from mesh_run.agent import BEAT, SILENCE
from mesh_run.lines import Lines
from mesh_run.request import Job, Node, Refused, Request, choose, environment_file, launch, read_hostfile

SSH = ("ssh", "-F", places.SSH_CONFIG, "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR")
AGENT = (sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), "agent")
_READY, _END = 60.0, 18.0  # seconds for all nodes to be ready, and to have ended
# What a launcher does by itself once a rank has failed, before it is ended.
_GRACE = 5.0


class Control(Protocol):
    """Where a front says that the run is to end."""

    def fileno(self) -> int: ...
    def stopped(self) -> int:
        """The signal by which, or 0. Called when there is something to read."""


def say(text: str) -> None:
    try:
        print(f"mesh-run: {text}", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


class Remote:
    """One node of the run."""

    def __init__(self, at: int, node: Node) -> None:
        self.at, self.name = at, node.name
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*SSH, node.name, shlex.join(AGENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self.lines = Lines(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.ready: dict[str, Any] | None = None
        self.refused = ""
        self.held: bool | None = None
        self.joined, self.why = 0, ""
        self.code: int | None = None
        self.gone = False
        self.lost = ""
        self.swept = False

    def silent(self) -> str:
        """Why nothing is to be expected from it any more, or empty."""
        if self.lines.closed:
            self.errors.seek(0)
            said = self.errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
            return said[-1] if said else "the connection has ended"
        if self.ready is not None and time.monotonic() - self.lines.heard > SILENCE:
            return f"it has not answered for {SILENCE:.0f} s"
        return ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


class Run:
    """All of them."""

    def __init__(self, job: Job, control: Control | None) -> None:
        self.job, self.control = job, control
        self.remotes: list[Remote] = []
        self.caught = 0
        self.failed: list[dict[str, Any]] = []
        self.stopped = ""
        self.beat = 0.0
        self.alone = False  # whether there is nobody any more who reads

    # Before it begins

    def prepare(self) -> tuple[int, bool]:
        """Ask all nodes at the same time, and find a port; returns it, and whether there are GPUs. Raises Refused."""
        self.remotes = [Remote(at, node) for at, node in enumerate(self.job.nodes)]
        raw = self.job.raw()
        for remote in self.remotes:
            remote.lines.send({"job": raw, "at": remote.at})
        self._until(lambda remote: remote.ready is not None, _READY)
        gpus = {remote.name: remote.ready["gpus"] for remote in self.remotes if remote.ready}
        without = ", ".join(name for name, count in gpus.items() if not count)
        if any(gpus.values()) and without:
            raise Refused(
                f"these nodes have no GPU in their mesh container and others do: {without}; choose with --nodes"
            )
        return self._port(), any(gpus.values())

    def _port(self) -> int:
        free = [set(remote.ready["free"]) for remote in self.remotes if remote.ready]
        wanted = self.job.request.port
        candidates = [wanted] if wanted else sorted(set.intersection(*free))
        for port in candidates:
            for remote in self.remotes:
                remote.held = None
                remote.lines.send({"hold": port})
            self._until(lambda remote: remote.held is not None, _READY)
            if all(remote.held for remote in self.remotes):
                return port
        taken = ", ".join(
            f"{remote.name} has {len(remote.ready['free'])} free" for remote in self.remotes if remote.ready
        )
        what = f"port {wanted} is" if wanted else f"no port is free on all of the nodes ({taken}), all are"
        raise Refused(f"{what} in use there: wait for another run to end (mesh-run ps)")

    def _until(self, done: Any, seconds: float) -> None:
        """Until all nodes have said it. Raises Refused, with what each of the others says."""
        deadline = time.monotonic() + seconds
        while not all(done(remote) or remote.refused or remote.lost for remote in self.remotes):
            self._turn()
            if self.caught:
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                for remote in self.remotes:
                    remote.lost = remote.lost or ("" if done(remote) else f"no answer within {seconds:.0f} s")
        not_ready = [f"  {one.name}: {one.refused or one.lost}" for one in self.remotes if one.refused or one.lost]
        if not_ready:
            raise Refused("not every chosen node is ready (leave them out with --nodes):\n" + "\n".join(not_ready))

    # While it runs

    def follow(self, gpus: bool) -> int:
        """Until it has ended everywhere; the exit status."""
        began = time.monotonic()
        for remote in self.remotes:
            remote.lines.send({"start": {"gpus": gpus}})
        complete, warned, first_failure = self.job.request.launcher == "none", False, 0.0
        while any(remote.code is None for remote in self.remotes):
            self._turn()
            now = time.monotonic()
            lost = [remote for remote in self.remotes if remote.lost and remote.code is None]
            refused = [remote for remote in self.remotes if remote.refused]
            if self.caught or lost or self.stopped or refused:
                break
            if not complete and sum(remote.joined for remote in self.remotes) >= self.job.ranks:
                complete = True
                say(f"all {self.job.ranks} ranks have joined after {now - began:.0f} s")
            if not complete and not warned and now - began > self.job.request.patience:
                warned = True
                self._tell_missing()
            bad = bool(self.failed) or any(remote.code for remote in self.remotes)
            first_failure = first_failure or (now if bad else 0.0)
            if first_failure and now - first_failure > _GRACE:
                break
        return self._verdict()

    def _tell_missing(self) -> None:
        for remote in self.remotes:
            ranks = self.job.on(remote.at)
            if remote.joined < ranks:
                why = remote.why or "they have not asked for it: still loading, or the script uses none"
                said = f"{remote.joined} of {ranks} ranks have joined after {self.job.request.patience:.0f} s"
                say(f"{remote.name}: {said}; rendezvous {self.job.address}: {why}")

    def _verdict(self) -> int:
        lost = [remote for remote in self.remotes if remote.lost and remote.code is None]
        if self.caught:
            say(f"{signal.Signals(self.caught).name}: stopping the run on all nodes")
            return 128 + self.caught
        for remote in [*lost, *(one for one in self.remotes if one.refused)]:
            say(f"{remote.name}: {remote.refused or remote.lost}; stopping the run on all other nodes")
        if lost or any(remote.refused for remote in self.remotes):
            return 1
        if self.stopped:
            say(f"stopped on {self.stopped} (mesh-run stop)")
            return 128 + signal.SIGTERM
        if self.failed:
            first = min(self.failed, key=lambda one: one["at"])
            code: int = first["code"]
            how = f"status {code}" if code > 0 else f"signal {_signal(-code)}"
            say(f"rank {first['rank']} on {first['node']} failed first, with {how}; its last lines:")
            for line in first["last"]:
                say(f"  {line}")
            return code if code > 0 else 128 - code
        codes = [remote.code for remote in self.remotes if remote.code]
        for remote in self.remotes:
            if remote.code:
                say(f"{remote.name}: the launcher ended with status {remote.code}")
        return next((code if code > 0 else 128 - code for code in codes if code), 0)

    def finish(self) -> None:
        """End it on all nodes, and wait until nothing is left of it on those that answer."""
        for remote in self.remotes:
            if not remote.lost:
                remote.lines.send({"stop": True})
        deadline = time.monotonic() + _END
        while any(not (remote.gone or remote.lost) for remote in self.remotes) and time.monotonic() < deadline:
            self._sweep([remote for remote in self.remotes if remote.lost])
            self._turn()
        self._sweep(self.remotes)
        for remote in self.remotes:
            if not remote.gone and remote.ready is not None:
                say(f"{remote.name}: it has not said that all has ended there; what is left ends within 30 s")
            remote.close()

    def _sweep(self, remotes: Sequence[Remote]) -> None:
        """Where the agent may be gone and its ranks not, by another connection; nobody waits for that."""
        for remote in remotes:
            if remote.ready is not None and not (remote.gone or remote.swept):
                remote.swept = True
                subprocess.Popen(
                    [*SSH, remote.name, shlex.join([*AGENT[:-1], "stop-here", self.job.id])],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )

    # One turn

    def _turn(self) -> None:
        with selectors.DefaultSelector() as selector:
            for remote in self.remotes:
                if not remote.lines.closed:
                    selector.register(remote.lines.incoming, selectors.EVENT_READ, remote)
                    if remote.lines.waiting:
                        selector.register(remote.lines.outgoing, selectors.EVENT_WRITE, None)
            if self.control and not self.caught:
                selector.register(self.control, selectors.EVENT_READ, self)
            ready = selector.select(0.5)
        for key, _events in ready:
            if isinstance(key.data, Remote):
                for message in key.data.lines.receive():
                    self._take(key.data, message)
            elif key.data is self and self.control:
                self.caught = self.caught or self.control.stopped()
        now = time.monotonic()
        due = now - self.beat >= BEAT
        self.beat = now if due else self.beat
        for remote in self.remotes:
            if due and not remote.lines.closed:
                remote.lines.send({"beat": True})
            remote.lines.flush()
            if not remote.gone:
                remote.lost = remote.lost or remote.silent()
        if not self.caught and (self.alone or _hung_up(1)):
            self.caught = signal.SIGHUP

    def _take(self, remote: Remote, message: dict[str, Any]) -> None:
        if "out" in message:
            self._print(f"{remote.name}: {message['out']}")
        elif "ready" in message:
            remote.ready = message["ready"]
        elif "refused" in message:
            remote.refused = message["refused"]
        elif "held" in message:
            remote.held = message["held"]
        elif "joined" in message:
            remote.joined, remote.why = message["joined"], message["why"]
        elif "failed" in message:
            failed = message["failed"]
            self.failed.append({**failed, "node": remote.name, "at": time.monotonic() - failed.get("ago", 0)})
        elif "ended" in message:
            remote.code = message["ended"]
        elif "stopped" in message:
            self.stopped = remote.name
        elif "gone" in message:
            remote.gone = True

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            self.alone = True
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return str(number)
    return f"{name} (the kernel may have been out of memory)" if number == signal.SIGKILL else name


def _hung_up(descriptor: int) -> bool:
    """Whether nobody reads any more what is written there."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _fd, events in poll.poll(0))


def here() -> str:
    """The name of this node in the mesh."""
    return environment_file(places.NODE_ENV).get("GPUSTEAD_NODE", socket.gethostname())


def nodes() -> tuple[Node, ...]:
    """The nodes of the mesh that take runs. Raises Refused."""
    hostfile = places.MESH / "hostfile"
    try:
        found = read_hostfile(places.read(hostfile), str(hostfile))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"{hostfile}: {said}; the share is not mounted, or the site playbook has not run") from None
    if not found and not states.left_out():
        raise Refused(f"{hostfile} has no node: run the site playbook")
    return found


def address_of(node: Node) -> str:
    done = subprocess.run(
        ["ssh", "-F", places.SSH_CONFIG, "-G", node.name], capture_output=True, text=True, check=False
    )
    match = re.search(r"^hostname (\S+)$", done.stdout, re.MULTILINE)
    if not match:
        raise Refused(f"{node.name}: no address in the SSH configuration: {done.stderr.strip()}")
    return match[1]


def plan(request: Request) -> Job:
    """What is to run where. Raises Refused."""
    left_out = states.left_out()
    chosen = choose(nodes(), request.nodes, request.per_node, here(), left_out)
    for name, why in left_out.items():
        if request.nodes is None or request.nodes.isdigit():
            say(f"{name} is left out: it {why}")
    environment = {
        **environment_file(places.SETTINGS),
        **environment_file(Path.home() / ".deepspeed_env"),
        **request.environment,
    }
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    logs = str(Path.home() / places.LOGS / name)
    return Job(name, chosen, address_of(chosen[0]), environment, request, logs)


def run(request: Request, control: Control | None = None) -> int:
    """From beginning to end; the exit status. Raises Refused."""
    job = plan(request)
    if request.dry_run:
        _show(job)
        return 0
    whole = Run(job, control)
    with _caught(whole):
        try:
            port, gpus = whole.prepare()
            os.makedirs(job.logs, mode=0o700, exist_ok=True)
            spread = ", ".join(f"{node.name} ({job.on(at)})" for at, node in enumerate(job.nodes))
            say(f"run {job.id}: {job.ranks} ranks on {spread}")
            say(f"rendezvous {job.nodes[0].name} {job.address}:{port}, logs {job.logs}")
            return whole.follow(gpus)
        except KeyboardInterrupt:
            return 128 + whole.caught
        finally:
            whole.finish()


def _show(job: Job) -> None:
    for name, value in job.environment.items():
        print(f"{name}={value}")
    for at, node in enumerate(job.nodes):
        words, _more = launch(job, at, job.request.port or 29500, "python", gpus=False)
        command = job.request.command if words[-1].endswith("rank.py") else ()
        print(f"{node.name}: {shlex.join([*words[:-1], *command])}")


@contextlib.contextmanager
def _caught(whole: Run) -> Iterator[None]:
    """Signals that end a run; one that is ignored (nohup) stays so."""

    def stop(number: int, _frame: FrameType | None) -> None:
        whole.caught = whole.caught or number

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_all(words: Sequence[str], seconds: float = 40) -> dict[str, tuple[int, str]]:
    """A command of ours on all nodes at the same time: {node: (exit status, what it printed or why not)}.

    Also on those that take no new runs: what was started there before goes on.
    """
    argv = [*AGENT[:-1], *words]
    started = {
        name: subprocess.Popen(
            [*SSH, name, shlex.join(argv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in dict.fromkeys((*(node.name for node in nodes()), *states.left_out()))
    }
    deadline = time.monotonic() + seconds
    answers: dict[str, tuple[int, str]] = {}
    for name, process in started.items():
        try:
            out, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            out, err = "", "no answer"
        said = out if process.returncode == 0 else (err.strip().splitlines() or ["no answer"])[-1]
        answers[name] = (process.returncode, said)
    return answers
