"""`ConnectionPool`: a pool of connections that an application opens and closes itself."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_toolkit.pools import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Connection = TypeVar("Connection")

IDLE_SECONDS = 30.0
"""Seconds after which idle connections beyond ``size`` are closed."""

CLOSE_SECONDS = 1.0
"""Time limit for closing the connections of a pool."""


class ConnectionPool(Pool[Connection]):
    """A pool of custom connections; see `Pool` for its use.

    Each function may be async; a sync one must not block. ::

        pool = ConnectionPool(connect, size=5, max_connections=20, timeout=10)
        async with pool, pool.acquire() as connection: ...

    Args:
        connect: Returns a new connection.
        close: Closes a connection. Default: its method ``aclose`` or ``close``.
        is_usable: Returns whether a used connection still works. Default: a connection is reused unless its last use
            raised.
        name: The name in errors.
        size: Idle connections that stay open. Others are closed after `IDLE_SECONDS`.
        max_connections: Maximum connections.
        timeout: Seconds to wait for a connection.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        connect: Callable[[], Connection | Awaitable[Connection]],
        *,
        close: Callable[[Connection], Any] | None = None,
        is_usable: Callable[[Connection], bool | Awaitable[bool]] | None = None,
        name: str = "pool",
        size: int = 10,
        max_connections: int = 50,
        timeout: float = 30.0,
    ) -> None:
        if size < 0 or max_connections < 1 or not timeout > 0:
            raise ValueError("size is at least 0, max_connections at least 1, and timeout more than 0 seconds")
        super().__init__(
            name,
            lambda: _CustomBackend(connect, close or _close, is_usable, self.size, self.limit),
            size=size,
            limit=max_connections,
            timeout=timeout,
            limit_option="max_connections",
            timeout_option="timeout",
        )


class _CustomBackend:
    """The backend of a `ConnectionPool`."""

    def __init__(
        self,
        connect: Callable[[], Any],
        close: Callable[[Any], Any],
        is_usable: Callable[[Any], Any] | None,
        size: int,
        limit: int,
    ) -> None:
        self._connect = connect
        self._close = close
        self._is_usable = is_usable
        self._size = size
        self._free = asyncio.Semaphore(limit)
        self._idle: deque[tuple[Any, float]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._trimming: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def idle(self) -> int:
        """See `PoolBackend`."""
        return len(self._idle)

    async def take(self) -> Any:
        """See `PoolBackend`."""
        await self._free.acquire()
        try:
            while self._idle:
                connection, _ = self._idle.pop()
                if await self._works(connection):
                    return connection
            return await _awaited(self._connect())
        except BaseException:
            self._free.release()
            raise

    async def _works(self, connection: Any) -> bool:
        if self._is_usable is None:
            return True
        works = False
        try:
            works = bool(await _awaited(self._is_usable(connection)))
        except Exception:
            return False
        finally:
            if not works:  # also where it was cancelled
                self._discard(connection)
        return works

    async def give_back(self, connection: Any, exc: BaseException | None) -> None:
        """See `PoolBackend`."""
        if self._is_closed or (exc is not None and self._is_usable is None):
            self._discard(connection)
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))
            self._trim_later()
        self._free.release()

    def _trim_later(self) -> None:
        if len(self._idle) > self._size and self._trimming is None:
            seconds = self._idle[0][1] + IDLE_SECONDS - asyncio.get_running_loop().time()
            self._trimming = asyncio.get_running_loop().call_later(max(0.0, seconds), self._trim)

    def _trim(self) -> None:
        self._trimming = None
        latest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while len(self._idle) > self._size and self._idle[0][1] <= latest:
            self._discard(self._idle.popleft()[0])
        self._trim_later()

    def _discard(self, connection: Any) -> None:
        """Close a connection in the background."""
        task = asyncio.get_running_loop().create_task(self._end(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _end(self, connection: Any) -> None:
        with suppress(Exception):  # it may be broken
            await _awaited(self._close(connection))

    async def close(self) -> None:
        """See `PoolBackend`."""
        self._is_closed = True
        if self._trimming is not None:
            self._trimming.cancel()
        while self._idle:
            self._discard(self._idle.pop()[0])
        if self._closing:
            _, slow = await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)
            for task in slow:
                task.cancel()

    def abandon(self) -> None:
        """See `PoolBackend`."""
        self._is_closed = True
        self._idle.clear()


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _close(connection: Any) -> Any:
    end = getattr(connection, "aclose", None) or getattr(connection, "close", None)
    return end() if end is not None else None
