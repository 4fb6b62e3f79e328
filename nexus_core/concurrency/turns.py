"""`Turns`: how many may do something at once; who comes later waits for his turn, in order."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Turns:
    """A semaphore that is taken on event loops and given back on any thread.

    Args:
        limit: How many there are.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take_now(self) -> bool:
        """Take a turn if one is free. Returns whether it was."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    async def take(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            waiter = loop, loop.create_future()
            self._waiting.append(waiter)
        try:
            await waiter[1]
        except asyncio.CancelledError:
            with self._lock:
                was_waiting = waiter in self._waiting
                if was_waiting:
                    self._waiting.remove(waiter)
            if not was_waiting:
                self.give_back()
            raise

    def give_back(self) -> None:
        """Return a turn, on any thread: to the first who waits."""
        with self._lock:
            while self._waiting:
                loop, future = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_wake, future)
                except RuntimeError:
                    continue  # its event loop was closed
                return
            self._free += 1


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
