"""`HttpPool`: one HTTP client for all workflows, which has a bounded number of connections."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from nexus_toolkit.blocking import Blocking, wait_for
from nexus_toolkit.pools import Pool, SyncPool

if TYPE_CHECKING:
    from httpx2 import AsyncClient


class HttpPool(Pool[None]):
    """Connections to HTTP servers. Requests take them one by one: there is nothing to acquire first.

    Args:
        size: Connections that stay open when they have nothing to do.
        max_connections: Requests under way at most.
        timeout: Seconds that a request waits for its turn, for a connection, and for each part of the answer.
    """

    def __init__(self, *, size: int, max_connections: int, timeout: float) -> None:
        super().__init__("http_pool", lambda: _Requests(self), size=size, limit=max_connections, timeout=timeout)

    @property
    def client(self) -> AsyncClient:
        """The client, on the event loop. Ask for it each time: it ends with the platform.

        It keeps no cookies, since they would be every caller's, and sends the trace that the running code is part of.
        """
        backend = self._here().backend
        assert isinstance(backend, _Requests)
        client: AsyncClient = backend.client
        return client

    def acquire(self) -> AbstractAsyncContextManager[AsyncClient]:  # type: ignore[override]
        """Return a context manager that gives the client. Its requests wait for their turn themselves."""
        return nullcontext(self.client)

    def sync(self) -> SyncHttpPool:
        """Return the pool for code in threads: ``pool.sync().client.get(url)``."""
        return SyncHttpPool(self)


class SyncHttpPool(SyncPool):
    """An `HttpPool` for code in threads."""

    @property
    def client(self) -> Any:
        """The client: its methods wait for their answers, which are used as they are."""
        from httpx2 import Response

        return Blocking(wait_for(self._loop, self._client()), self._loop, (Response,))

    def acquire(self) -> Any:
        """Return a context manager that gives the client."""
        return nullcontext(self.client)

    async def _client(self) -> AsyncClient:
        assert isinstance(self._pool, HttpPool)
        return self._pool.client


class _Requests:
    """The backend of an `HttpPool`: whose turn it is. The client has the connections."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(pool.limit)
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client, made when it is first asked for."""
        if self._client is None:
            from nexus_pools.client import SharedClient

            self._client = SharedClient(self._pool)
        return self._client

    @property
    def idle(self) -> int:
        """See `Backend`."""
        return self._client.idle_connections() if self._client is not None else 0

    async def take(self) -> None:
        """See `Backend`."""
        await self._free.acquire()

    async def give_back(self, connection: None, exc: BaseException | None) -> None:
        """See `Backend`."""
        self._free.release()

    async def close(self) -> None:
        """See `Backend`."""
        if self._client is not None:
            await self._client.end()

    def abandon(self) -> None:
        """See `Backend`."""
        self._client = None
