"""`Line`: one connection to a file of SQLite, and the thread that is at work on it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.concurrency.threads import DaemonThreads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

Value = TypeVar("Value")


class Line:
    """Takes steps on a connection, one after the other, in a thread that lives while there are some.

    The connection is opened by the first step, and anew after an error other than a lock of somebody else's.

    Args:
        connect: Opens it.
        name: The thread's name.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._threads = DaemonThreads(name)
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[tuple[Future[Any], Callable[[sqlite3.Connection], Any]]] = deque()
        self._lock = threading.Lock()
        self._is_at_work = False

    async def take(self, step: Callable[[sqlite3.Connection], Value], seconds: float) -> Value:
        """Take a step, and return what it returns. One that has not begun when nobody waits for it never does.

        Raises:
            TimeoutError: It has taken longer than so many seconds, and may or may not happen.
            OSError, sqlite3.Error: The file can't be opened, or the step failed and has changed nothing.
        """
        work: Future[Value] = Future()
        with self._lock:
            self._waiting.append((work, step))
            begins, self._is_at_work = not self._is_at_work, True
        if begins:
            self._threads.start(self._work)
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(work)

    async def close(self, seconds: float) -> None:
        """Close the connection, after the steps that wait."""
        if self._connection is not None or self._is_at_work:
            await self.take(lambda _: self._drop(), seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_at_work = False
                    return
                work, step = self._waiting.popleft()
            if work.set_running_or_notify_cancel():
                self._perform(work, step)

    def _perform(self, work: Future[Any], step: Callable[[sqlite3.Connection], Any]) -> None:
        from nexus_sessions.sqlite_file import is_busy

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
