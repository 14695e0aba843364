# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One rank, started by a launcher: runs the script, keeps its output, and says how it ended where it failed.

Its output goes on to the launcher, line by line, and into a file of its own.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

KEPT = 20  # lines of a rank that failed


def command(job: Mapping[str, Any], python: str, words: Sequence[str]) -> list[str]:
    """What the rank runs; a launcher may have added words of its own, which the script gets first."""
    given = [str(word) for word in job["command"]]
    if job["launcher"] == "none":
        return given
    return [python, "-u", given[0], *words, *given[1:]]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _pass_on(source: BinaryIO, log: BinaryIO | None, last: collections.deque[bytes]) -> None:
    for line in source:
        last.append(line)
        with contextlib.suppress(OSError):
            os.write(1, line)
        if log:
            with contextlib.suppress(OSError):
                log.write(line)
                log.flush()


def main() -> int:
    place = Path(os.environ["MESH_RUN_PLACE"])
    job = json.loads((place / "job.json").read_text())
    rank = os.environ.get("RANK", "0")
    last: collections.deque[bytes] = collections.deque(maxlen=KEPT)
    log: BinaryIO | None = None
    with contextlib.suppress(OSError):
        log = open(Path(job["logs"], f"rank-{rank}.log"), "ab")  # noqa: SIM115
    try:
        child = subprocess.Popen(
            command(job, sys.executable, sys.argv[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
    except OSError as error:
        last.append(f"{error}\n".encode())
        os.write(2, last[-1])
        return _failed(place, rank, 127, last)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: child.send_signal(caught))
    assert child.stdout is not None
    reader = threading.Thread(target=_pass_on, args=(child.stdout, log, last), daemon=True)
    reader.start()
    code = child.wait()
    reader.join(2)  # what it has left running may hold its output open
    return _failed(place, rank, code, last) if code else 0


def _failed(place: Path, rank: str, code: int, last: collections.deque[bytes]) -> int:
    text = [line.decode("utf-8", "replace").rstrip("\n") for line in last]
    told = place / f"failed-{rank}.new"
    told.write_text(json.dumps({"rank": int(rank), "code": code, "last": text, "at": time.time()}))
    told.rename(place / f"failed-{rank}.json")
    return code if code > 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
