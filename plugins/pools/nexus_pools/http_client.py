"""`SharedClient`: an HTTP client that all workflows share."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self

from httpx2 import AsyncByteStream, AsyncClient, Limits, Request, Response, Timeout

from nexus_core.types.trace import trace_headers
from nexus_pools._vendor_internals import idle_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nexus_toolkit.pools import Pool

IDLE_SECONDS = 30.0
"""Seconds after which an idle connection is closed."""


class SharedClient(AsyncClient):
    """Sends requests within the limits of a pool. Closing it has no effect: all workflows share it.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool[None]) -> None:
        self._pool = pool
        super().__init__(
            timeout=Timeout(pool.timeout),
            limits=Limits(
                max_connections=pool.limit, max_keepalive_connections=pool.size, keepalive_expiry=IDLE_SECONDS
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # all callers would share them
        )

    async def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """Send a request once a connection is free. A streamed response occupies it until it is closed.

        Raises:
            BackendUnavailable: No connection was free within the timeout.
        """
        for name, value in trace_headers().items():
            request.headers.setdefault(name, value)
        taken = await self._pool.take()
        try:
            response = await super().send(request, stream=stream, **options)
        except BaseException as exc:
            await self._pool.give_back(taken, exc)
            raise
        if response.is_closed or not isinstance(response.stream, AsyncByteStream):
            await self._pool.give_back(taken, None)
        else:
            response.stream = _PooledStream(response.stream, lambda: self._pool.give_back(taken, None))
        return response

    def idle_connections(self) -> int:
        """Return the number of idle connections."""
        return idle_connections(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave it open."""

    async def aclose(self) -> None:
        """Leave it open."""

    async def end(self) -> None:
        """Close every connection."""
        await super().aclose()


class _PooledStream(AsyncByteStream):
    """A response body that gives back the connection when it is closed."""

    def __init__(self, stream: AsyncByteStream, free: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._free: Callable[[], Awaitable[None]] | None = free

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        free, self._free = self._free, None
        try:
            await self._stream.aclose()
        finally:
            if free is not None:
                await free()
