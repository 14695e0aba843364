# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a command whose output somebody else may decide: within a time and a size, and never beyond either.

What is killed is killed with all that it started, and tells nothing: half an answer must not be taken for a whole one.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# What injects a command into the library: status, output, errors.
Run = Callable[[Sequence[str]], "tuple[int, str, str]"]
RunWith = Callable[[Sequence[str], str], "tuple[int, str, str]"]  # with what it reads from stdin
RunFor = Callable[[Sequence[str], float], "tuple[int, str, str]"]  # with the seconds that it has

NOT_FOUND, TIMED_OUT = 127, 124  # what a shell and timeout(1) answer for a command
TOO_MUCH = 141  # as of one that SIGPIPE ended
SIZE = 4 << 20
_LINGER = 1.0  # seconds for what has been written already, once the command itself has ended


def run(
    argv: Sequence[str],
    timeout: float = 60,
    size: int = SIZE,
    environment: Mapping[str, str] | None = None,
    errors: str = "replace",
) -> tuple[int, str, str]:
    """Run a command to its end, or to the end of its time or of its size. It reads nothing.

    Args:
        argv: the command.
        timeout: seconds. One that hangs in the kernel then is left behind.
        size: bytes of output and errors together.
        environment: variables beside those of this process.
        errors: what becomes of bytes that are no UTF-8, see `bytes.decode`. In its errors they are replaced.

    Returns:
        Its status (of a signal the negative number), output and errors. Of one that could not be started NOT_FOUND, of
        one that was killed TIMED_OUT or TOO_MUCH, both with the reason as errors and without any output.
    """
    process = _start(argv, environment, subprocess.PIPE)
    if isinstance(process, str):
        return NOT_FOUND, "", process
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe]
    try:
        parts = _read(process, [pipe.fileno() for pipe in pipes], timeout, size)
    except BaseException:
        _kill(process)
        raise
    finally:
        for pipe in pipes:
            pipe.close()
    if isinstance(parts, int):
        _kill(process)
        limits = {TIMED_OUT: f"no answer within {timeout:g} s", TOO_MUCH: f"it printed more than {size} bytes"}
        return parts, "", f"{limits[parts]}, and was killed"
    out, err = parts
    return process.returncode, out.decode(errors=errors), err.decode(errors="replace")


def within(timeout: float, size: int = SIZE, environment: Mapping[str, str] | None = None) -> Run:
    """A `run` with these limits, to be injected into the library."""
    return lambda argv: run(argv, timeout, size, environment)


def must(
    run: Callable[..., tuple[int, str, str]],
    argv: Sequence[str],
    *how: Any,
    good: Sequence[int] = (0,),
    remedy: str = "Remove the cause and run again.",
) -> str:
    """The output of a command that has to succeed.

    Args:
        run: runs it; `how` is what it is given besides.
        argv: the command.
        good: the statuses of a success.
        remedy: what to do where it ends with another.

    Raises:
        GpusteadError: it ended with another status; with what it said.
    """
    code, out, err = run(argv, *how)
    if code not in good:
        said = " ".join((err or out).split())
        raise GpusteadError(f"{shlex.join(argv)} ended with {code} ({said})", f"it to end with {good[0]}", remedy)
    return out


def stream(
    argv: Sequence[str],
    listen: Callable[[str], None],
    timeout: float,
    width: int = 8192,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command and hand on every line of its output and errors as it comes.

    Args:
        argv: the command.
        listen: gets each line without its end, which is a newline and nothing else; it must not keep them all.
        timeout: seconds.
        width: longest line, in bytes; the rest of a longer one is left out.
        environment: variables beside those of this process.

    Returns:
        Its status, and empty errors or the reason why it could not be started or was killed, as of `run`.
    """
    process = _start(argv, environment, subprocess.STDOUT)
    if isinstance(process, str):
        return NOT_FOUND, process
    deadline = time.monotonic() + timeout
    try:
        for line in _lines(process, deadline, width):
            listen(line.decode(errors="replace"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
    finally:
        status = process.returncode
        if status is None:
            _kill(process)
        if process.stdout:
            process.stdout.close()
    return (status, "") if status is not None else (TIMED_OUT, f"no end within {timeout:g} s, and was killed")


class _Process(subprocess.Popen[bytes]):
    """A command in a group of its own, with which all that it started can be killed."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None, errors: int) -> None:
        super().__init__(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def _start(argv: Sequence[str], environment: Mapping[str, str] | None, errors: int) -> _Process | str:
    """The process, or why there is none."""
    try:
        return _Process(argv, environment, errors)
    except OSError as error:
        return f"{argv[0]}: {error.strerror or error}"


def _lines(process: _Process, deadline: float, width: int) -> Iterator[bytes]:
    """The lines that come until all who can write have ended, the time is up, or the command has ended for a while."""
    pipe = process.stdout.fileno() if process.stdout else -1
    line = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            deadline = min(deadline, time.monotonic() + _LINGER)
        if not poll.poll(200):
            continue
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        *whole, rest = data.split(b"\n")
        for part in whole:
            yield (line + part)[:width]
            line = b""
        line = (line + rest)[:width]
    if line:
        yield line


def _read(process: _Process, pipes: Sequence[int], timeout: float, size: int) -> tuple[bytes, bytes] | int:
    """What came out of both pipes, or why no more was read. Others may hold them open after the command's end."""
    parts: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    deadline, left, open_ones = time.monotonic() + timeout, size, len(pipes)
    while open_ones:
        now = time.monotonic()
        if process.poll() is not None:
            deadline = min(deadline, now + _LINGER)
        if now >= deadline:
            break
        for pipe, _event in poll.poll(min(0.2, deadline - now) * 1000):
            data = os.read(pipe, min(1 << 16, left + 1))
            left -= len(data)
            if left < 0:
                return TOO_MUCH
            if data:
                parts[pipe].append(data)
            else:
                poll.unregister(pipe)
                open_ones -= 1
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    if process.returncode is None:
        return TIMED_OUT
    out, err = (b"".join(parts[pipe]) for pipe in pipes)
    return out, err


def _kill(process: _Process) -> None:
    """With its group; who hangs in the kernel is not waited for."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
