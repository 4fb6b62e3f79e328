"""`LoopLag`: the delay of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque

SECONDS = 0.25
"""Seconds between measurements."""

WINDOW = 60.0
"""Seconds for which the longest delay is remembered, so that every scrape sees it."""


class LoopLag:
    """Measures the delay of a timer."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=int(WINDOW / SECONDS))
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring, on the running event loop."""
        self._latest.clear()
        self._set_timer()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def longest(self) -> float:
        """Return the longest lag of the last minute, in seconds. From any thread."""
        return max(self._latest.copy(), default=0.0)

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + SECONDS
        self._timer = loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        self._latest.append(max(0.0, asyncio.get_running_loop().time() - self._due))
        self._set_timer()
