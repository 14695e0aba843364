# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mesh's service in its container, as root: sshd, who may log in, and the door for workspaces and the node.

It takes the accounts from the share, as role accounts leaves them there, and looks again every other second: who is on
the list is let in, and who is off it is out at once, with all that runs. A container that was down reads it first. What
goes wrong in here ends no run: that is tried again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from mesh_run import accounts, names, places, processes
from mesh_run.accounts import Account, People

SSHD = "/usr/local/lib/gpustead/services/sshd"
RUN = Path("/run/gpustead")
DOOR = RUN / "door" / "socket"
_EVERY = 2.0  # seconds
_EACH = 100  # connections of one account by the door
_NOBODY, _NO_ONE = 65534, 65535  # the latter has nothing, and no account may be it
_REMOUNT = 0x20 | 0x2 | 0x4 | 0x8  # MS_REMOUNT, as it is: nosuid, nodev, noexec


def hide_processes() -> None:
    """Nobody sees another's processes. Raises OSError: the container was not given what that takes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"proc", b"/proc", b"proc", _REMOUNT, b"hidepid=2,gid=0") != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "/proc")


def say(text: str) -> None:
    print(f"mesh: {places.shown(text)}", file=sys.stderr, flush=True)


class Service:
    """All of it."""

    def __init__(self) -> None:
        self.people: People | None = None
        self.sshd: subprocess.Popen[bytes] | None = None
        self.damaged: dict[Path, str] = {}
        self.base = {name: Path("/etc", name).read_text() for name in ("passwd", "group")}
        self.written: People | None = None  # whom the container has
        self.leaving: set[int] = set()
        self.ending = False

    def environment(self) -> dict[str, str]:
        """What sshd is told of the accounts."""
        people = self.people or People()
        others = [one for one in people.accounts if one.name != os.environ["GPUSTEAD_USER"]]
        return {**os.environ, "GPUSTEAD_ACCOUNTS": " ".join(f"{one.name}:{one.uid}:{one.gid}" for one in others)}

    def look(self) -> None:
        """Take over what has changed on the share."""
        with self._readable(accounts.LIST):
            found = accounts.read()
            if found:
                found, refused = accounts.without_systems(found, self.base["passwd"], self.base["group"])
                if refused and found != self.people:
                    say(f"the system has the names of {', '.join(refused)}: they are left out")
                self.leaving |= accounts.gone(self.people.accounts if self.people else (), found.accounts)
                self.people = found
        if self.people and self.people != self.written:
            # A full disk, say: it is tried again. Who is to leave does not stay for that.
            with self._readable(Path("/etc/passwd")):
                self._write(self.people)
                self.written = self.people
        self._end_others()

    def configure(self) -> None:
        """Likewise of the nodes."""
        RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
        # First: what ssh is told names this file.
        with self._readable(places.MESH / "revoked"):
            _keep(RUN / "known_hosts", known_hosts())
        with self._readable(places.MESH / "nodes.json"):
            _keep(RUN / "ssh_config", configuration())

    @contextlib.contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        """The share may be away, be written just now, or hold what others have put there: what was known stays."""
        try:
            yield
        except (
            *(OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError),
            subprocess.SubprocessError,
        ) as error:
            if self.damaged.get(path) != str(error):
                self.damaged[path] = str(error)
                say(f"{path} cannot be used, so all stays as it is: {error}")
        else:
            self.damaged.pop(path, None)

    def _write(self, people: People) -> None:
        shell = os.environ.get("SHELL", "/bin/bash")
        _replace(Path("/etc/passwd"), accounts.passwd(self.base["passwd"], people, shell))
        _replace(Path("/etc/group"), accounts.group(self.base["group"], people))
        for account in people.accounts:
            make_place(account)
        close_places(people)
        if self.sshd:
            # It re-reads its files and keeps the sessions.
            subprocess.run([SSHD, "configure"], env=self.environment(), check=True)
            self.sshd.send_signal(signal.SIGHUP)

    def _end_others(self) -> None:
        """Whoever is here and not on the list; before a list was read, nobody is."""
        if not self.people:
            return
        if self.leaving:
            # A connection that has not shown its key yet still knows the account that it asked for.
            privsep = accounts.uid_of("sshd", self.base["passwd"])
            if privsep:
                end_all(privsep)
        for uid in self.leaving | (present() - {one.uid for one in self.people.accounts}):
            end_all(uid)
        if self.people == self.written:
            self.leaving.clear()

    def run(self) -> int:
        """Until sshd ends as it should; its exit status."""
        self.look()
        self.configure()
        port = int(os.environ.get("GPUSTEAD_SSH_PORT", "2222"))
        door = open_door(port)
        signal.signal(signal.SIGHUP, self._pass_on)
        signal.signal(signal.SIGTERM, self._pass_on)
        self.sshd = subprocess.Popen([SSHD], env=self.environment())
        ran = False
        while True:
            time.sleep(_EVERY)
            code = self.sshd.poll()
            if code is not None:
                if self.ending or not ran:
                    return code if code >= 0 else 128 - code
                # Somebody may have taken its port while it began anew, for instance. The runs go on without it.
                say(f"sshd has ended with {code}, and is started again")
                with self._readable(Path(SSHD)):
                    self.sshd = subprocess.Popen([SSHD], env=self.environment())
            ran = True
            with self._readable(DOOR):
                if door < 0 or (door and os.waitpid(door, os.WNOHANG)[0]):
                    door = -1
                    door = open_door(port)
            self.configure()
            self.look()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.ending = self.ending or number == signal.SIGTERM
        if self.sshd:
            self.sshd.send_signal(number)


def _keep(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8") != text:
        _replace(path, text)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.gpustead")
    new.write_text(text)
    new.chmod(0o644)
    new.rename(path)


def make_place(account: Account, above: Path = places.ACCOUNTS) -> None:
    """A directory of the account's own, in one that is root's. What a former one of that name had stays aside."""
    above.mkdir(mode=0o755, parents=True, exist_ok=True)
    place = above / account.name
    with contextlib.suppress(FileNotFoundError):
        owner = place.lstat().st_uid
        if owner == account.uid:
            return
        place.rename(above / f"{account.name}.{owner}.{time.time_ns()}")
    place.mkdir(mode=0o700)
    os.chown(place, account.uid, account.gid)


def close_places(people: People, above: Path = places.ACCOUNTS) -> None:
    """Nobody enters any more what those have left who are gone, also not who gets their number."""
    stay = {(one.name, one.uid) for one in people.accounts}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(above):
            if (entry.name, entry.stat(follow_symlinks=False).st_uid) not in stay:
                os.chown(entry.path, 0, 0, follow_symlinks=False)
                os.chmod(entry.path, 0o700)  # only root makes something here: it is no link


def present() -> set[int]:
    """Uids of people that have processes in here."""
    return {uid for uid in processes.owners() if accounts.is_persons(uid)}


def end_all(uid: int) -> None:
    """Kill all that an account has in here."""
    for _turn in range(100):
        if uid not in processes.owners():
            return
        _kill_all(uid)
        time.sleep(0.05)
    say(f"processes of uid {uid}, which is not to be here, do not end")


def _kill_all(uid: int) -> None:
    """All at once, as it: one by one, some would have others, and a number might be another's by then.

    Only what may kill is the account's meanwhile, and not what it may stop. It takes no process more, which there may
    not be.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM))  # passed on as root
    os.setresuid(_NO_ONE, uid, 0)
    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
    finally:
        os.setresuid(0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def known_hosts() -> str:
    """Whom ssh trusts: what root has on the node, and of the share no more than keys that are refused.

    Raises OSError and others.
    """
    ours = (places.PROGRAMS / "known_hosts").read_text()
    try:
        refused = names.revoked(places.read(places.MESH / "revoked"))
    except FileNotFoundError:
        refused = ()
    return ours + "".join(f"@revoked * {key}\n" for key in refused)


def configuration() -> str:
    """What ssh is told of the nodes: of the share no more than their names and places. Raises OSError and others."""
    nodes = names.parse(places.read(places.MESH / "nodes.json"))
    here = json.loads((places.PROGRAMS / "node.json").read_text())
    return names.configuration(nodes, str(RUN / "known_hosts"), here["kex"], here["family"])


def open_door(port: int, door: Path = DOOR) -> int:
    """Where workspaces and the node come in without a network: all that comes goes to sshd, as nobody."""
    if not door.parent.is_dir():
        return 0
    with contextlib.suppress(FileNotFoundError):
        door.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(door))
    door.chmod(0o666)
    listening.listen(128)
    pid = os.fork()
    if pid:
        listening.close()
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # what setuid has taken back
    try:
        asyncio.run(_serve(listening, port))
    finally:
        os._exit(1)


async def _serve(listening: socket.socket, port: int) -> None:
    inside: collections.Counter[int] = collections.Counter()

    async def come_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("3i", credentials)
        inside[uid] += 1
        try:
            # One account leaves the others their place: to sshd all of these come from one address.
            if inside[uid] <= _EACH:
                there, to_there = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, to_there), _copy(there, writer))
                to_there.close()
        except OSError:
            pass  # sshd is not there now
        finally:
            inside[uid] -= 1
            writer.close()

    server = await asyncio.start_unix_server(come_in, sock=listening)
    async with server:
        await server.serve_forever()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError):
        if target.can_write_eof():
            target.write_eof()


def main() -> int:
    """First hides the processes, then begins again without the capability for that."""
    if sys.argv[-1] != "serve":
        try:
            hide_processes()
        except OSError as error:
            say(f"{error}: the container needs SYS_ADMIN and no profile of AppArmor, as role ssh_mesh gives it")
            return 1
        again = [sys.executable, "-I", str(places.PROGRAMS / "mesh-run"), "serve"]
        os.execvp("setpriv", ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", *again])
    return Service().run()
