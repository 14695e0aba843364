# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host as probes look at it: its files, its commands, and what stands for what cannot be looked at."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar, cast

from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mountinfo
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.run import (
    NOT_FOUND,
    SIZE,
    TIMED_OUT,
    TOO_MUCH,
    RunFor,
    run,
)

Value = Optional[dict[str, Any]]  # what is there as a flat JSON object, or None where it is not
Subject = Mapping[str, Any]  # "name", and options beside it
T = TypeVar("T")

_LONGEST = 64 << 20  # bytes
_BLOCK = 1 << 20  # bytes that are asked for at once: of a setting in /proc/sys the kernel refuses 4 MiB
ABSENT = (FileNotFoundError, NotADirectoryError)
OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO or a device must not hold us up


class Unreadable(Exception):
    """The reason why a thing could not be looked at. Its text goes into the receipt: never quote contents in it."""


def run_command(argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
    code, out, err = run(argv, timeout, SIZE, {"LC_ALL": "C"}, "surrogateescape")
    limits = {NOT_FOUND: "not found", TIMED_OUT: f"did not end within {timeout:g} s", TOO_MUCH: "says too much"}
    return code, out, err if out or code not in limits else f"{argv[0]}: {limits[code]}"


class Host:
    """Where the probes look. `root` stands before each path that is read; what is read once is kept."""

    __slots__ = ("_kept", "docker", "now", "root", "run", "salt")

    def __init__(
        self,
        root: str = "/",
        salt: bytes = b"",
        run: RunFor = run_command,
        docker: str = "/run/docker.sock",
        now: float | None = None,
    ) -> None:
        self.root, self.salt, self.run, self.docker = root, salt, run, docker
        self.now = time.time() if now is None else now
        self._kept: dict[str, Any] = {}

    def afresh(self) -> Host:
        """The same host for another observation: nothing read yet."""
        return Host(self.root, self.salt, self.run, self.docker, self.now)

    def once(self, key: str, make: Callable[[Host], T]) -> T:
        """What `make` gives for this host, made at the first call; its failure, too, is kept."""
        if key not in self._kept:
            try:
                self._kept[key] = make(self), None
            except Exception as error:
                self._kept[key] = None, error
        value, failure = self._kept[key]
        if failure:
            raise failure
        return cast(T, value)

    def path(self, name: str) -> str:
        if not name.startswith("/"):
            raise Unreadable(f"{name!r} is not an absolute path")
        return self.root.rstrip("/") + name

    def read(self, name: str) -> bytes | None:
        """A file of the system, links followed; None where there is none. Longer than all of those it is none."""
        try:
            with open(os.open(self.path(name), OPEN), "rb") as file:
                data = file.read(_BLOCK)
                while len(data) <= _LONGEST and (block := file.read(_BLOCK)):
                    data += block
        except ABSENT:
            return None
        if len(data) > _LONGEST:
            raise Unreadable(f"{name} is longer than {_LONGEST >> 20} MiB")
        return data

    def text(self, name: str) -> str | None:
        data = self.read(name)
        return None if data is None else data.decode(errors="surrogateescape")

    def must(self, argv: Sequence[str], timeout: float = 10, codes: Iterable[int] = (0,)) -> str:
        """The output of a command; what cannot be asked is no answer."""
        code, out, err = self.run(argv, timeout)
        if code not in codes:
            raise Unreadable(f"{argv[0]}: {' '.join(err.split())[:200] or f'ended with {code}'}")
        return out

    def digest(self, data: bytes, secret: object = False) -> str:
        """What stands for `data`. That of a secret can neither be guessed at nor compared without the salt."""
        if not secret:
            return hashlib.sha256(data).hexdigest()
        if not self.salt:
            raise Unreadable("there is no salt for the digest of a secret")
        return hmac.new(self.salt, data, "sha256").hexdigest()


Probe = Callable[[Sequence[Subject], Host], dict[str, Value]]


def reason(error: BaseException, secret: object = False) -> dict[str, Any]:
    """The value of what could not be looked at; other people's messages may quote what was read."""
    if isinstance(error, OSError):
        return {"error": f"{error.filename or 'cannot be read'}: {error.strerror or type(error).__name__}"}
    if secret and not isinstance(error, Unreadable):
        return {"error": type(error).__name__}
    return {"error": str(error) if isinstance(error, Unreadable) else f"{type(error).__name__}: {error}"}


def each(one: Callable[[Subject, Host], Value]) -> Probe:
    """A probe of many subjects from that of one: a subject that cannot be read leaves the others theirs."""

    def probe(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for subject in subjects:
            try:
                values[subject["name"]] = one(subject, host)
            except Exception as error:
                values[subject["name"]] = reason(error, subject.get("secret"))
        return values

    return probe


def path_of(subject: Subject) -> str:
    """`path` lets two subjects of a kind (two blocks, say) lie in one file under different names."""
    return str(subject.get("path") or subject["name"])


def lines_of(text: str | None) -> list[str]:
    """The lines of a file of the system's: paths and names in it hold what only Python takes for an end of line."""
    return [line for line in (text or "").split("\n") if line]


def mountpoints(host: Host) -> dict[str, Mounted]:
    """By mount point what the kernel's list has, of those on top."""
    return mountinfo.parse(host.text(mountinfo.PATH) or "")
