"""`LoopLag`: how late the event loop is."""

from __future__ import annotations

import asyncio

SECONDS = 0.25
"""How often it is measured."""


class LoopLag:
    """Measures by how much a timer is late.

    Attributes:
        latest: Seconds, at the latest measurement.
    """

    def __init__(self) -> None:
        self.latest = 0.0
        self._longest = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure from now on, on the running event loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + SECONDS
        self._timer = loop.call_at(self._due, self._measure)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take_longest(self) -> float:
        """Return the longest lag since the last time."""
        longest, self._longest = max(self._longest, self.latest), 0.0
        return longest

    def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        self.latest = max(0.0, loop.time() - self._due)
        self._longest = max(self._longest, self.latest)
        self._due = loop.time() + SECONDS
        self._timer = loop.call_at(self._due, self._measure)
