"""`SerialExecutor`: runs the steps of one SQLite connection one after the other, in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.concurrency.threads import DaemonThreads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

Value = TypeVar("Value")

LENT_SECONDS = 20e-6
"""For how long the event loop's thread lets go of Python's lock at a time. Most systems add some 50 microseconds."""

LEND_AGAIN_SECONDS = 1e-3
"""After what time it first does so again."""


class SerialExecutor:
    """Runs steps on a connection one after the other, in a thread that ends when none are waiting.

    The first step opens the connection. After an error other than a lock of another process, the next one reopens it.

    Args:
        connect: Opens the connection.
        name: The thread's name.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._threads = DaemonThreads(name)
        self._connection: sqlite3.Connection | None = None
        self._queue: deque[tuple[Future[Any], Callable[[sqlite3.Connection], Any]]] = deque()
        self._lock = threading.Lock()
        self._is_running = False

    async def run(
        self, step: Callable[[sqlite3.Connection], Value], seconds: float, *, lends_lock: bool = False
    ) -> Value:
        """Run a step and return its result. A step that has not begun when its caller is cancelled never does.

        Args:
            step: The step.
            seconds: Time limit, including the steps before it.
            lends_lock: Whether the event loop's thread lets go of Python's lock for some moments meanwhile. A busy
                event loop does so by itself for a microsecond at a time: too short for another thread, which it wakes
                each time in vain. For steps that are done often while the event loop is busy.

        Raises:
            TimeoutError: The step took longer than this many seconds; it may or may not have an effect.
            OSError, sqlite3.Error: The file can't be opened, or the step failed without an effect.
        """
        work: Future[Value] = Future()
        with self._lock:
            self._queue.append((work, step))
            begins, self._is_running = not self._is_running, True
        if begins:
            self._threads.start(self._work)
        if lends_lock:
            _lend_lock(work, LEND_AGAIN_SECONDS)
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(work)

    async def close(self, seconds: float) -> None:
        """Close the connection, after the waiting steps."""
        if self._connection is not None or self._is_running:
            await self.run(lambda _: self._drop(), seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._is_running = False
                    return
                work, step = self._queue.popleft()
            if work.set_running_or_notify_cancel():
                self._perform(work, step)

    def _perform(self, work: Future[Any], step: Callable[[sqlite3.Connection], Any]) -> None:
        from nexus_toolkit.sqlite_file import is_busy  # not before it is needed: sqlite3

        try:
            if self._connection is None:
                self._connection = self._connect()
            work.set_result(step(self._connection))
        except Exception as exc:
            if is_busy(exc) and self._connection is not None:
                self._connection.rollback()
            else:
                self._drop()
            work.set_exception(exc)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _lend_lock(work: Future[Any], pause: float) -> None:
    """Let go of Python's lock for a moment, now and after pauses of twice the length until the work is done."""
    if not work.done():
        time.sleep(LENT_SECONDS)
        asyncio.get_running_loop().call_later(pause, _lend_lock, work, 2 * pause)
