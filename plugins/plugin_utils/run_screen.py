# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the lines of a run are shown: Ansible's display, and in a terminal one line that is taken back."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from ansible import constants as C
from ansible import context
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_progress import BAD, Line, RunProgress

COLORS = {
    "unchanged": C.COLOR_OK,
    "changed": C.COLOR_CHANGED,
    "unreachable": C.COLOR_UNREACHABLE,
    "failed": C.COLOR_ERROR,
}
TAKE_BACK = "\r\x1b[2K"


class Screen:
    """Shows what a run says, and says once a second what it waits for.

    Whatever else writes to Ansible's display (warnings, other callbacks, actions) comes past here first, so that it
    stands below the line of its step. All happens under the lock that Ansible holds while it forks: no process begins
    with half a line, or with a lock that nobody will release.

    Args:
        display: Ansible's.
        run: what says the lines.

    Attributes:
        lock: that of the display.
        escaping: whether what others write now may be of a host's making.
    """

    def __init__(self, display: Any, run: RunProgress) -> None:
        self.lock: Any = display._lock
        self.escaping = False
        self._run, self._write, self._pid = run, display.display, os.getpid()
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live = terminal and not context.CLIARGS.get("step")  # which asks there
        self._drawn = False
        self._over: threading.Event | None = None
        display.display = self._others
        atexit.register(self.stop)

    def start(self) -> None:
        if not self._over:
            self._over = threading.Event()
            threading.Thread(target=self._tick, args=(self._over,), daemon=True).start()

    def stop(self) -> None:
        with self.lock:
            if self._over:
                self._over.set()
                self._over = None
            self._clear()

    def show(self, lines: Sequence[Line], stderr: bool = False) -> None:
        """Show lines; with `stderr` those of failures there."""
        if lines:
            self._clear()
            for line in lines:
                self._write(line.text, color=COLORS.get(line.of), stderr=stderr and line.of in BAD)
            self._flush()

    def _others(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # What a worker has to say is shown by the process that has forked it.
        if os.getpid() != self._pid:
            self._write(msg, *args, **kwargs)
            return
        with self.lock:
            self._clear()
            self.show(self._run.header(monotonic()))
            self._write("\n".join(map(shown, msg.split("\n"))) if self.escaping else msg, *args, **kwargs)

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(1):
            with self.lock:
                if over.is_set():
                    return
                if self._live:
                    self._draw(self._run.live(monotonic()))
                else:
                    self.show(self._run.waiting(monotonic()))

    def _draw(self, line: str) -> None:
        width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
        self._write(TAKE_BACK + line[: width - 1], newline=False, screen_only=True)
        self._drawn = True
        self._flush()

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = False
            self._write(TAKE_BACK, newline=False, screen_only=True)
            self._flush()

    def _flush(self) -> None:
        with suppress(OSError):  # whoever read it, such as head, has ended
            sys.stdout.flush()
