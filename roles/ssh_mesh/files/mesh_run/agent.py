# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run on one node: asked over SSH by its head, it starts the launcher and sees to it that nothing is left of it.

It speaks lines of JSON. Whatever becomes of the head, of the network or of the launcher: what this run has started here
ends within 20 seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mesh_run import leavings, places, processes
from mesh_run.lines import FULL, Lines
from mesh_run.request import LAUNCHERS, PORTS, Job, Refused, activated, launch, prefix_of

BEAT, SILENCE = 3.0, 12.0  # seconds between signs of life, and without one
_LINE = 1 << 16  # bytes of a line that is passed on as one


class Agent:
    """Of one run on one node."""

    def __init__(self, head: Lines) -> None:
        self.head = head
        self.job: Job | None = None
        self.at = 0
        self.python = ""
        self.environment: dict[str, str] = {}
        self.held: socket.socket | None = None
        self.port = 0
        self.launcher: subprocess.Popen[bytes] | None = None
        self.place: Path | None = None
        self.pids: set[int] = set()
        self.began = time.time()
        self.joined = -1
        self.told: set[str] = set()
        self.came = b""
        self.drained = False  # whether the launcher, and all that it started, said its last
        self.ending = ""

    # What the head asks for

    def take(self, message: dict[str, Any]) -> None:
        try:
            if "job" in message:
                self.job, self.at = Job.of(message["job"]), int(message["at"])
                self.head.send({"ready": self.look()})
            elif "hold" in message:
                self.hold(message["hold"])
            elif "start" in message:
                self.start(bool(message["start"]["gpus"]))
            elif "stop" in message:
                self.ending = "stop"
        except (Refused, OSError, subprocess.SubprocessError) as error:
            self.head.send({"refused": str(error)})
            self.ending = "refused"

    def look(self) -> dict[str, Any]:
        """Whether the run can be here. Raises Refused."""
        assert self.job
        request = self.job.request
        try:
            os.chdir(request.directory)
        except OSError as error:
            raise Refused(f"{request.directory}: {error.strerror} there") from None
        path = request.path or os.environ.get("PATH", os.defpath)
        self.environment = {**os.environ, "PATH": path, **self.job.environment}
        prefix = prefix_of(request, os.path.expanduser("~"))
        if prefix:
            self.environment.update(activated(prefix, request.conda, self.environment["PATH"]))
        path = self.environment["PATH"]
        script = request.command[0]
        if request.launcher == "none":
            if not shutil.which(script, path=path):
                raise Refused(f"{script}: no such command there")
        else:
            if not os.access(script, os.R_OK):
                raise Refused(f"{script}: no such file there")
            self.python = shutil.which("python", path=path) or ""
            self._refuse_without(LAUNCHERS[request.launcher])
        self._extensions()
        return {"gpus": _gpus(), "free": [port for port in PORTS if _is_free(port)]}

    def _refuse_without(self, module: str) -> None:
        if not self.python:
            raise Refused(f"no python on the PATH {self.environment['PATH']}")
        look = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
        done = subprocess.run(
            [self.python, "-I", "-c", look, module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise Refused(f"{self.python} has no {module}")

    def _extensions(self) -> None:
        """The account's own copy of what the image has compiled."""
        target = self.environment.get("TORCH_EXTENSIONS_DIR", "")
        program = shutil.which("gpustead-start")
        if program and target and not os.path.exists(target):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [program, "extensions"],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )

    def hold(self, port: int | None) -> None:
        """Keep a port for this run, as all runs do: by a name that only one of them can have on a node."""
        if self.held:
            self.held.close()
        assert self.job
        usable = port is not None and _is_free(port, ours=True) and not leavings.of_others(self.job.address, port)
        self.held = hold_port(port) if port is not None and usable else None
        self.port = port or 0
        self.head.send({"held": self.held is not None})

    def start(self, gpus: bool) -> None:
        assert self.job
        runs = places.own() / "runs"
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place = Path(tempfile.mkdtemp(prefix=f"{self.job.id}.", dir=runs))
        job = {"command": self.job.request.command, "launcher": self.job.request.launcher, "logs": self.job.logs}
        (self.place / "job.json").write_text(json.dumps(job))
        # Of a run that had this port before: the ranks would take them for theirs.
        leavings.remove(self.job.address, self.port, (), self.began)
        leavings.remove_dead(hold_port)
        words, more = launch(self.job, self.at, self.port, self.python, gpus=gpus, scratch=str(self.place))
        environment = {
            **self.environment,
            **more,
            processes.MARK: f"{self.job.id}.{self.at}",
            "MESH_RUN_PLACE": str(self.place),
        }
        if not gpus:
            environment.setdefault("DS_ACCELERATOR", "cpu")
        if self.environment.get("GPUSTEAD_UMASK"):
            os.umask(int(self.environment["GPUSTEAD_UMASK"], 8))
        self._record()
        self.launcher = subprocess.Popen(
            words,
            env=environment,
            cwd=self.job.request.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_agent,  # noqa: PLW1509
        )
        assert self.launcher.stdout
        os.set_blocking(self.launcher.stdout.fileno(), False)

    def _record(self) -> None:
        """What `mesh-run ps` shows; its lock says that this process lives."""
        assert self.job and self.place
        nodes = [f"{node.name} ({self.job.on(at)})" for at, node in enumerate(self.job.nodes)]
        self._lock = open(self.place / "record.json", "w")  # noqa: SIM115
        record = {
            "id": self.job.id,
            "pid": os.getpid(),
            "nodes": nodes,
            "ranks": self.job.ranks,
            "rendezvous": f"{self.job.address}:{self.port}",
            "started": self.began,
            "logs": self.job.logs,
            "command": list(self.job.request.command),
        }
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        json.dump(record, self._lock)
        self._lock.flush()

    # What it sees

    def watch(self) -> None:
        """Once a second: who has joined, who has failed, and whether the launcher has ended."""
        if not self.launcher or not self.job:
            return
        self._tell_failed()
        if self.job.request.launcher != "none" and self.joined < self.job.on(self.at):
            self._tell_joined()
        code = self.launcher.poll()
        if code is not None:
            self.forward()
            self._tell_failed()
            self.head.send({"ended": code})
            self.launcher, self.ending = None, "ended"

    def _tell_failed(self) -> None:
        assert self.place
        for path in sorted(self.place.glob("failed-*.json")):
            if path.name not in self.told:
                self.told.add(path.name)
                with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                    failed = json.loads(path.read_text())
                    # Of nodes whose clocks differ the head finds the first one nevertheless.
                    self.head.send({"failed": {**failed, "ago": time.time() - failed["at"]}})

    def _tell_joined(self) -> None:
        """A rank that has joined is connected to the rendezvous; the launcher itself is none."""
        assert self.launcher
        others = processes.listeners(self.port) - {os.geteuid()} if self.at == 0 else set()
        if others:
            what = f"{', '.join(map(_who, others))} listens on port {self.port}, to which the ranks would speak"
            self.head.send({"refused": f"{what}; it was free a moment ago: start the run again"})
            self.ending = "refused"
            return
        ranks = processes.descendants(self.launcher.pid)
        sockets = processes.sockets_to(self.port)
        connected = {inode for inode, state in sockets.items() if state == processes.ESTABLISHED}
        asking = {inode for inode, state in sockets.items() if state == processes.SYN_SENT}
        # Of one rank, several may have it: what it has started.
        joined = len({processes.variable(pid, "RANK") for pid in processes.with_sockets(ranks, connected)})
        if joined != self.joined:
            self.joined = joined
            why = "no answer from there" if processes.with_sockets(ranks, asking) else ""
            self.head.send({"joined": joined, "why": why})

    def forward(self) -> None:
        """Lines of the ranks, unless the head is slow to take them."""
        if not self.launcher or not self.launcher.stdout:
            return
        while len(self.head.waiting) < FULL:
            try:
                data = os.read(self.launcher.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self.drained = not data
            if not data and not self.came:
                return
            data = data or b"\n"
            *lines, self.came = (self.came + data).split(b"\n")
            if len(self.came) > _LINE:
                lines, self.came = [*lines, self.came], b""
            for line in lines:
                self.head.send({"out": line.decode("utf-8", "replace")})

    # Its end

    def note(self) -> None:
        """Which processes are its, for when they are gone; also for when this one is."""
        new = processes.descendants(os.getpid()) - self.pids
        self.pids |= new
        if self.place and new:
            with contextlib.suppress(OSError), open(self.place / "pids", "a") as file:
                file.write("".join(f"{pid}\n" for pid in new))

    def finish(self) -> None:
        """End what there is left of the run, and everything it has left."""
        run, me = f"{self.job.id}.{self.at}" if self.job else "", os.getpid()
        self.note()

        def left() -> set[int]:
            processes.reap()
            return processes.descendants(me) | (processes.of_run(run) if run else set())

        rest = processes.end(left) if self.launcher or self.place else set()
        if self.launcher:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.launcher.wait(1)
        self.forward()
        if self.place:
            self._tell_failed()
        if self.place and self.job and not rest:
            leavings.remove(self.job.address, self.port, self.pids, self.began)
            shutil.rmtree(self.place, True)
        self.head.send({"gone": not rest})


def _gpus() -> int:
    return sum(1 for device in Path("/dev").glob("nvidia[0-9]*"))


def _who(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def hold_port(port: int) -> socket.socket | None:
    """A name in the network of the node: who has it, has the port; it is free as soon as that process is gone."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind(f"\0gpustead-mesh-port-{port}")
    except OSError:
        name.close()
        return None
    return name


def _is_free(port: int, ours: bool = False) -> bool:
    """Whether no run holds it, and nothing listens there. With `ours` the former is left to who asks."""
    if not ours:
        name = hold_port(port)
        if name is None:
            return False
        name.close()
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((any_address, port))
        except OSError as error:
            if error.errno == 98:  # in use; a node may have no IPv6
                return False
    return True


def _end_with_agent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def main() -> int:
    """Until the run has ended here, in whatever way."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what loses its parent becomes ours
    head = Lines(0, os.dup(1))
    os.dup2(2, 1)  # nothing else speaks to the head
    agent = Agent(head)

    def stop(_number: int, _frame: object) -> None:
        agent.ending = agent.ending or "stopped"

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        _listen(agent)
        if agent.ending == "stopped":
            head.send({"stopped": True})
    finally:
        # Whatever went wrong here, too.
        agent.finish()
        deadline = time.monotonic() + 5
        while head.waiting and not head.closed and time.monotonic() < deadline:
            head.flush()
            time.sleep(0.05)
    return 0


def _listen(agent: Agent) -> None:
    head, beat, looked = agent.head, 0.0, 0.0
    while not agent.ending:
        with selectors.DefaultSelector() as selector:
            selector.register(head.incoming, selectors.EVENT_READ)
            if head.waiting:
                selector.register(head.outgoing, selectors.EVENT_WRITE)
            if agent.launcher and agent.launcher.stdout and not agent.drained and len(head.waiting) < FULL:
                selector.register(agent.launcher.stdout, selectors.EVENT_READ)
            ready = {key.fd for key, _events in selector.select(0.5)}
        if head.incoming in ready:
            for message in head.receive():
                agent.take(message)
            head.heard = time.monotonic()  # what was asked for may have taken its time
        if agent.launcher and agent.launcher.stdout and agent.launcher.stdout.fileno() in ready:
            agent.forward()
        head.flush()
        now = time.monotonic()
        if now - looked >= 0.5:
            looked = now
            agent.watch()
        if now - beat >= BEAT:
            beat = now
            head.send({"beat": True})
            if agent.launcher:
                agent.note()
        if head.closed or now - head.heard > SILENCE:
            agent.ending = agent.ending or "alone"


if __name__ == "__main__":
    sys.exit(main())
