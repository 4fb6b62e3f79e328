"""`RedisPool`: Redis for workflows, on separate connections, so that workflows do not delay the stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nexus_toolkit.pools import Pool

from nexus_core.errors import BackendUnavailable
from nexus_redis import pools
from nexus_redis._vendor_internals import idle_connections

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

    from nexus_redis.client import RedisClient

TRIM_SECONDS = 30.0
"""Seconds between two closings of connections beyond ``size`` that have not been used for a while."""


class RedisPool(Pool[Any]):
    """Lends a ``redis.asyncio.Redis`` to ``max_connections`` users at a time, so that each finds a free connection.

    Args:
        client: The client of the stores; while it finds Redis unavailable, no caller waits.
        size: Connections that stay open while they are unused.
        max_connections: Maximum number of connections.
        timeout: Seconds to wait for a connection.
    """

    def __init__(self, client: RedisClient, *, size: int, max_connections: int, timeout: float) -> None:
        super().__init__(
            "redis_pool",
            lambda: _RedisBackend(self, client),
            size=size,
            limit=max_connections,
            timeout=timeout,
            timeout_option="redis_timeout",
        )


class _RedisBackend:
    """The backend of a `RedisPool`."""

    def __init__(self, pool: RedisPool, client: RedisClient) -> None:
        self._pool = pool
        self._client = client
        self._free = asyncio.Semaphore(pool.limit)
        self._connections: BlockingConnectionPool | None = None
        self._redis: Any = None
        self._next_trim: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Task[None] | None = None

    @property
    def idle(self) -> int:
        """See `PoolBackend`."""
        return len(idle_connections(self._connections)) if self._connections is not None else 0

    async def take(self) -> Any:
        """See `PoolBackend`."""
        if self._client.reason is not None:
            server = self._client.address.name
            raise BackendUnavailable(f"redis_pool: Redis at {server}: {self._client.reason}", retry_after=1.0)
        if self._redis is None:
            self._open()
        await self._free.acquire()
        return self._redis

    def _open(self) -> None:
        from redis.asyncio import Redis

        self._connections = pools.make_pool(self._client.address, self._pool.limit, self._pool.timeout)
        self._connections.timeout = self._pool.timeout  # for code that uses several connections at once
        self._redis = Redis(connection_pool=self._connections)
        self._trim_later()

    async def give_back(self, connection: Any, exc: BaseException | None) -> None:
        """See `PoolBackend`."""
        self._free.release()

    def _trim_later(self) -> None:
        self._next_trim = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        assert self._connections is not None
        trim = pools.trim(self._connections, self._pool.size)
        self._trimming = asyncio.get_running_loop().create_task(trim, name="nexus-redis-trim")
        self._trim_later()

    async def close(self) -> None:
        """See `PoolBackend`."""
        if self._next_trim is not None:
            self._next_trim.cancel()
        if self._trimming is not None:
            await self._trimming
        if self._connections is not None:
            await pools.close(self._connections)

    def abandon(self) -> None:
        """See `PoolBackend`."""
