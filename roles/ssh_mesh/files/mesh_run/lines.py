# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lines of JSON both ways over two descriptors, of which neither keeps its owner waiting."""

from __future__ import annotations

import json
import os
import time
from typing import Any

_READ = 1 << 16
FULL = 1 << 20  # bytes that wait to be sent, from which on nothing more should be put there


class Lines:
    """One end.

    Attributes:
        heard: when something came last, by the monotonic clock.
        closed: whether the other end is gone.
        waiting: bytes that are not sent yet.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.heard, self.closed = time.monotonic(), False
        self.waiting = bytearray()
        self._came = bytearray()
        for descriptor in (incoming, outgoing):
            os.set_blocking(descriptor, False)

    def send(self, message: dict[str, Any]) -> None:
        self.waiting += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        try:
            while self.waiting:
                del self.waiting[: os.write(self.outgoing, self.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
            self.waiting.clear()

    def receive(self) -> list[dict[str, Any]]:
        """What has come. What is no line of JSON (a banner, a shell that says something) is left out."""
        try:
            data = os.read(self.incoming, _READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return []
        self.heard = time.monotonic()
        self._came += data
        *lines, rest = bytes(self._came).split(b"\n")
        self._came = bytearray(rest)
        return [message for message in map(_message, lines) if message is not None]


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
