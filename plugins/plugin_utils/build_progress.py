# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person reads while a stack is built: a line for every layer, and one when nothing has ended for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Progress:
    """Turns the events of module image_stack into lines, each event once.

    Args:
        host: name that every line begins with.
        quiet: seconds without a line until one says what is worked on.

    Attributes:
        ended: whether the last event was seen, after which the module only answers.
    """

    def __init__(self, host: str, quiet: float) -> None:
        self.host, self.quiet = host, quiet
        self.told = 0
        self.last: float | None = None
        self.ended = False

    def lines(self, events: Sequence[Mapping[str, Any]], now: float) -> list[str]:
        """The lines for the events that are new.

        Args:
            events: all events so far, in their order.
            now: seconds on a clock that never goes back.
        """
        self.last = now if self.last is None else self.last
        new = events[self.told :]
        self.told = len(events)
        self.ended = self.ended or any(event["state"] == "ended" for event in new)
        lines = [self._reached(event) for event in new if event["state"] not in ("at", "ended")]
        if not lines and events and now - self.last >= self.quiet and events[-1]["state"] == "at":
            lines = [f"{self.host}: layer {events[-1]['layer']} at {events[-1]['instruction'][:90]}"]
        if lines:
            self.last = now
        return lines

    def _reached(self, event: Mapping[str, Any]) -> str:
        after = f" after {duration(event['after'])}" if "after" in event else ""
        return f"{self.host}: layer {event['layer']} {event['state']}{after}"


def duration(seconds: float) -> str:
    """`62.1` as `1 min 02 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
