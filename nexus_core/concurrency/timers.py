"""`Timers`: time limits that almost never pass, at almost no cost.

Setting and cancelling a timer of the event loop's costs several microseconds, and each call needs three. Here it is one
entry in a dictionary, looked at every `TICK` seconds while there is any.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds by which a timer may be late."""


class Timers:
    """Calls functions on the running event loop when their time has come."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[float, Callable[[], object]]] = {}
        self._keys = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: object = None

    @property
    def pending(self) -> int:
        """How many functions are still to be called."""
        return len(self._entries)

    def schedule(self, seconds: float, callback: Callable[[], object]) -> int:
        """Call a function ``seconds`` from now, or up to `TICK` later. Returns the key for `cancel`."""
        key = next(self._keys)
        self._entries[key] = (time.monotonic() + seconds, callback)
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop, self._watch = loop, object()
            loop.call_later(TICK, self._tick, loop, self._watch)
        return key

    def cancel(self, key: int) -> None:
        """Forget a timer; one that has fired is not an error."""
        self._entries.pop(key, None)

    def _tick(self, loop: asyncio.AbstractEventLoop, watch: object) -> None:
        if watch is not self._watch:
            return  # another event loop has taken over
        now = time.monotonic()
        for key in [key for key, (when, _) in self._entries.items() if when <= now]:
            _, callback = self._entries.pop(key, (0.0, None))
            if callback is not None:
                _call(callback)
        if self._entries:
            loop.call_later(TICK, self._tick, loop, watch)
        else:
            self._loop = None


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:  # the others must still be called
        log.exception("A timer raised an exception")
