"""Trees as an account could leave them, somebody who changes them meanwhile, and a canary that nobody may touch."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import mmap
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

# Nobody else's on this machine: another test may stop what runs in its accounts' names.
ADA, ADAS_NEXT, BOB, CARL, SERVICE = 61800, 61810, 61801, 61802, 61820
_EXCHANGE = 2  # renameat2(2): RENAME_EXCHANGE
_LIBC = ctypes.CDLL(None, use_errno=True)

LONG = "l" * 255
BROKEN = os.fsdecode(b"caf\xe9\xff")  # no UTF-8
BAIT, MARK = "bait", "canary"
SHOWY = "\x1b]0;owned\x07\n"
FILE, DIRECTORY, LINK, HARD_LINK, FIFO, DEVICE, SOCKET, ANY = range(8)
DEPTH = 1200  # deeper than Python recurses


@dataclass(frozen=True)
class Names:
    """What root looks for in a kind of tree: directories on the way, and entries in these; how its top may be."""

    directories: tuple[str, ...]
    entries: tuple[str, ...]
    owners: tuple[int, ...] = (ADA, ADA, ADA, BOB, 0)
    modes: tuple[int, ...] = (0o755, 0o777, 0o777, 0o1777, 0o2777)


class Canary:
    """Files of root's and of others, outside of every tree: whatever happens, they stay as they are.

    `kept`: whose in whose name root works; her files elsewhere must not change either. Not the attacker's.
    """

    def __init__(self, top: Path, kept: int) -> None:
        self.top = top
        top.mkdir(mode=0o755)
        (top / "folder").mkdir()
        for name, owner, mode in (
            ("secret", 0, 0o600),
            ("su", 0, 0o4755),
            ("bobs", CARL, 0o600),
            ("kept", kept, 0o600),
            ("record.json", 0, 0o644),
            ("folder/x", 0, 0o644),
            ("folder/file", kept, 0o600),
            ("folder/authorized_keys", kept, 0o600),
        ):
            (top / name).write_text(f'{{"a": "{MARK} {name}"}}\n')
            os.chown(top / name, owner, owner)
            (top / name).chmod(mode)
        # As where Ansible's own account has its keys: nothing may be made there, nor its mode changed.
        os.chown(top / "folder", kept, kept)
        (top / "folder").chmod(0o755)
        names = ("secret", "su", "bobs", "kept", "folder", "folder/file", ".", "none")
        self.targets = [
            *(str(top / name) for name in names),
            "/dev/zero",
            "/dev/full",
            "/proc/self/mem",
            "/",
            "x",
            "..",
        ]
        # What an account can give a second name where the system does not forbid it, and a container always.
        self.linkable = [str(top / name) for name in ("secret", "su", "bobs", "record.json")]
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, int, int, str]]:
        """Owner, mode, time of the last change and digest of all that is there."""
        seen = {}
        for path in [self.top, *sorted(self.top.rglob("*"))]:
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
            seen[str(path)] = (status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns, digest)
        return seen

    def told(self, said: object) -> list[str]:
        """What of it has become somebody's to read, in what root brought back."""
        closed = [
            path.name for path in self.top.rglob("*") if path.is_file() and not path.lstat().st_mode & stat.S_IROTH
        ]
        return [name for name in closed if f"{MARK} {name}" in repr(said)]

    def changed(self) -> list[str]:
        now = self.look()
        return sorted(path for path in {*now, *self.before} if now.get(path) != self.before.get(path))


def plant(top: Path, names: Names, canary: Canary, random: Random) -> None:
    """Make one tree. What root looks for is there as it should be, or as it should not."""
    top.mkdir()
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        owner = random.choice(names.owners)
        os.fchown(at, owner, owner)
        os.fchmod(at, random.choice(names.modes))
        for directory in names.directories:
            _place(at, directory, canary, random, DIRECTORY if random.random() < 0.8 else ANY)
        # What is exchanged with what root looks for.
        prey = random.choice(names.entries)
        way = prey.rpartition("/")[0]
        _place(at, f"{way}/{BAIT}".lstrip("/"), canary, random, random.randrange(DIRECTORY, ANY))
        if random.random() < 0.5:
            _place(at, prey, canary, random, FILE)
        for name in (*names.entries, *random.sample((LONG, BROKEN, SHOWY, "x", "y", ".z"), 3)):
            _place(at, name, canary, random)
        if random.random() < 0.02:
            _chain(at, random)
    finally:
        os.close(at)


def _place(top: int, path: str, canary: Canary, random: Random, kind: int = ANY) -> None:
    """Put something to a path; nothing where a link is on the way."""
    *way, name = path.split("/")
    at = os.dup(top)
    try:
        for step in way:
            inner = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        _entry(at, name, canary, random, kind)
    except OSError:  # what is on the way, or there already, is something else
        return
    finally:
        os.close(at)


def _entry(at: int, name: str, canary: Canary, random: Random, kind: int) -> None:
    """Something of a kind at a name; of any: mostly a file or a directory of ada's, else what she could put there."""
    if kind == ANY:
        kind = random.choice((FILE, FILE, FILE, FILE, DIRECTORY, DIRECTORY, LINK, LINK, *range(HARD_LINK, ANY)))
    if kind == FILE:
        _file(at, name, random)
    elif kind == DIRECTORY:
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        for other in random.sample(("x", "y", BROKEN, "authorized_keys"), random.randrange(3)):
            os.symlink(random.choice(canary.targets), other, dir_fd=inner)
        os.close(inner)
        owner = random.choice((ADA, ADA, ADA, BOB, SERVICE, 0))
        os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False)
        os.chmod(name, random.choice((0o700, 0o755, 0o777, 0o777, 0o777)), dir_fd=at)
    elif kind == LINK:
        os.symlink(random.choice(canary.targets), name, dir_fd=at)
        os.chown(name, ADA, ADA, dir_fd=at, follow_symlinks=False)
    elif kind == HARD_LINK:
        os.link(random.choice(canary.linkable), name, dst_dir_fd=at)
    elif kind == FIFO:
        os.mkfifo(name, dir_fd=at)
        os.chown(name, ADA, ADA, dir_fd=at)
        os.chmod(name, 0o666, dir_fd=at)
    elif kind == DEVICE:
        device = random.choice((os.makedev(1, 5), os.makedev(1, 3), os.makedev(1, 7)))  # zero, null, full
        os.mknod(name, stat.S_IFCHR, device, dir_fd=at)
        os.chmod(name, 0o666, dir_fd=at)
    elif len(name) < 80:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(f"/proc/self/fd/{at}/{name}".encode(errors="surrogateescape"))


def _file(at: int, name: str, random: Random) -> None:
    content = random.choice((b"x\n", b"[" * 5000, b'{"a": 1}', b"\xff\0", b"x" * 100_000, b""))
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=at)
    os.write(file, content)
    owner = random.choice((ADA, ADA, ADA, BOB, 0))
    os.fchown(file, owner, random.choice((owner, 0, ADA)))
    os.fchmod(file, random.choice((0o644, 0o600, 0o666, 0o4755, 0o2755, 0)))
    os.close(file)


def _chain(at: int, random: Random) -> None:
    """Directories in directories, each of ada's."""
    above = os.dup(at)
    for _ in range(DEPTH):
        with contextlib.suppress(FileExistsError):
            os.mkdir("d", dir_fd=above)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        os.close(above)
        above = inner
        os.fchown(above, ADA, ADA)
    os.symlink("/", "end", dir_fd=above)
    os.close(above)


class Attacker:
    """A process of an account that goes on exchanging, linking and removing in the tree that root is at."""

    def __init__(self, base: Path, uid: int, names: Names, targets: Sequence[str], seed: int) -> None:
        self.shared = mmap.mmap(-1, 24)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                self._live(base, names, targets, Random(seed))
            finally:
                os._exit(0)

    def at(self, number: int) -> None:
        """Go to the tree of this number, and begin; 0: rest."""
        self.shared[:8] = struct.pack("q", number)
        for _ in range(100 if number else 0):
            if struct.unpack("q", self.shared[16:])[0] == number:
                return
            time.sleep(0.0002)

    def did(self) -> int:
        """How much it has done."""
        return int(struct.unpack("q", self.shared[8:16])[0])

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _live(self, base: Path, names: Names, targets: Sequence[str], random: Random) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(600)  # should the test be gone
        ways = sorted({entry.rpartition("/")[0] or "." for entry in names.entries})
        current, done = 0, 0
        opened: list[tuple[int, list[str]]] = []
        while True:
            number = struct.unpack("q", self.shared[:8])[0]
            if number != current or not opened:
                for folder, _names in opened:
                    os.close(folder)
                current, opened = number, list(_folders(base / f"t{number}", ways))
                self.shared[16:] = struct.pack("q", number)
            if not opened:
                os.sched_yield()
                continue
            folder, inside = random.choice(opened)
            one, other = (
                (BAIT, random.choice(inside)) if random.random() < 0.7 else random.sample([*inside, BAIT, "x"], 2)
            )
            first, second = os.fsencode(one), os.fsencode(other)
            for _ in range(random.randrange(1, 60)):
                _LIBC.renameat2(folder, first, folder, second, _EXCHANGE)
            if random.random() < 0.1:
                with contextlib.suppress(OSError):
                    _trouble(folder, one, other, targets, random)
            done += 1
            self.shared[8:16] = struct.pack("q", done)


def _folders(top: Path, ways: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The directories of a tree in which root looks for something, with the names that are there."""
    for way in ways:
        try:
            folder = os.open(top / way, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        names = [name for name in os.listdir(folder) if name != BAIT]
        if names:
            yield folder, names
        else:
            os.close(folder)


def _trouble(top: int, one: str, other: str, targets: Sequence[str], random: Random) -> None:
    choice = random.randrange(12)
    if choice == 0:
        os.symlink(random.choice(targets), one, dir_fd=top)
    elif choice == 1:
        os.rename(one, ".aside", src_dir_fd=top, dst_dir_fd=top)
        os.symlink(random.choice(targets), one, dir_fd=top)
    elif choice == 2:
        os.rename(".aside", one, src_dir_fd=top, dst_dir_fd=top)
    elif choice == 3:
        os.mkfifo(one, 0o666, dir_fd=top)
    elif choice == 4:
        os.link(one, other, src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
    elif choice == 5:
        os.mkdir(one, 0o777, dir_fd=top)
    elif choice == 6:
        os.unlink(one, dir_fd=top)
    elif choice == 7:
        os.close(os.open(one, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=top))


@contextlib.contextmanager
def attacked(base: Path, uid: int, names: Names, canary: Canary, seed: int) -> Iterator[Attacker]:
    attacker = Attacker(base, uid, names, canary.targets, seed)
    try:
        yield attacker
    finally:
        attacker.end()
