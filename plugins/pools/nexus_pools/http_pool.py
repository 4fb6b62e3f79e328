"""`HttpPool`: one HTTP client for all workflows, with a bounded number of connections."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from nexus_toolkit.blocking import Blocking, wait_for
from nexus_toolkit.pools import Pool, SyncPool

if TYPE_CHECKING:
    from httpx2 import AsyncClient

    from nexus_pools.settings import PoolsSettings


class HttpPool(Pool[None]):
    """Connections to HTTP servers. Each request acquires one by itself.

    Args:
        settings: The options.
    """

    def __init__(self, settings: PoolsSettings) -> None:
        super().__init__(
            "http_pool",
            lambda: _HttpBackend(self),
            size=settings.http_pool_size,
            limit=settings.http_pool_max_connections,
            timeout=settings.http_pool_timeout,
        )

    @property
    def client(self) -> AsyncClient:
        """The client, on the event loop. Read it for each use: it is closed when the platform stops.

        It stores no cookies, which all callers would share, and propagates the current trace.
        """
        backend = self.opened_here().backend
        assert isinstance(backend, _HttpBackend)
        client: AsyncClient = backend.client
        return client

    def acquire(self) -> AbstractAsyncContextManager[AsyncClient]:  # type: ignore[override]
        """Return a context manager with the client, whose requests wait for a free connection themselves."""
        return nullcontext(self.client)

    def sync(self) -> SyncHttpPool:
        """Return the pool for code in threads: ``pool.sync().client.get(url)``."""
        return SyncHttpPool(self)


class SyncHttpPool(SyncPool):
    """An `HttpPool` for code in threads."""

    @property
    def client(self) -> Any:
        """The client, with blocking methods that return ordinary responses."""
        from httpx2 import Response

        return Blocking(wait_for(self._loop, self._client()), self._loop, (Response,))

    def acquire(self) -> Any:
        """Return a context manager with the client."""
        return nullcontext(self.client)

    async def _client(self) -> AsyncClient:
        assert isinstance(self._pool, HttpPool)
        return self._pool.client


class _HttpBackend:
    """The backend of an `HttpPool`: it bounds the requests; the client has the connections."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(pool.limit)
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client, made at its first use."""
        if self._client is None:
            from nexus_pools.http_client import SharedClient

            self._client = SharedClient(self._pool)
        return self._client

    @property
    def idle(self) -> int:
        """See `PoolBackend`."""
        return self._client.idle_connections() if self._client is not None else 0

    async def take(self) -> None:
        """See `PoolBackend`."""
        await self._free.acquire()

    async def give_back(self, connection: None, exc: BaseException | None) -> None:
        """See `PoolBackend`."""
        self._free.release()

    async def close(self) -> None:
        """See `PoolBackend`."""
        if self._client is not None:
            await self._client.end()

    def abandon(self) -> None:
        """See `PoolBackend`."""
        self._client = None
