# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person reads while a stack is built: a line for every layer, and one when nothing has ended for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown


class Progress:
    """Turns the events of module image_stack into lines.

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


def duration(seconds: float) -> str:
    """`62.1` as `1 min 02 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
