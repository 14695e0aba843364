# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person reads while a stack is built, or a command runs in a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown


class Progress:
    """Turns the events of module image_stack into lines: one for every layer, and one when nothing ends for a while.

    Args:
        host: name that every line begins with.
        quiet: seconds without a line until one says what is worked on.

    Attributes:
        ended: whether the last event was seen, after which the module only answers.
        latest: the last event.
    """

    def __init__(self, host: str, quiet: float) -> None:
        self.host, self.quiet = host, quiet
        self.last: float | None = None
        self.latest: Mapping[str, Any] = {"state": ""}

    @property
    def ended(self) -> bool:
        return bool(self.latest["state"] == "ended")

    def lines(self, events: Sequence[Mapping[str, Any]], now: float) -> list[str]:
        """The lines for what is new.

        Args:
            events: those since the last call, in their order.
            now: seconds on a clock that never goes back.
        """
        self.last = now if self.last is None else self.last
        self.latest = events[-1] if events else self.latest
        lines = [self._reached(event) for event in events if event["state"] not in ("at", "ended")]
        if not lines and now - self.last >= self.quiet and self.latest["state"] == "at":
            lines = [f"{self.host}: layer {self.latest['layer']} at {shown(self.latest['instruction'], 90)}"]
        if lines:
            self.last = now
        return lines

    def _reached(self, event: Mapping[str, Any]) -> str:
        after = f" after {duration(event['after'])}" if "after" in event else ""
        return f"{self.host}: layer {event['layer']} {event['state']}{after}"


class Said:
    """Turns the events of module container_command into lines; of many at once the last.

    Args:
        host: name that every line begins with.

    Attributes:
        ended: whether the last event was seen.
    """

    MOST = 10

    def __init__(self, host: str) -> None:
        self.host = host
        self.ended = False

    def lines(self, events: Sequence[Mapping[str, Any]], _now: float) -> list[str]:
        self.ended = self.ended or any(event["state"] == "ended" for event in events)
        said = [f"{self.host}: {shown(event['line'])}" for event in events if event["state"] == "said"]
        left_out = len(said) - self.MOST
        return [f"{self.host}: ({left_out} lines)", *said[-self.MOST :]] if left_out > 0 else said


def duration(seconds: float) -> str:
    """`62.1` as `1 min 02 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
