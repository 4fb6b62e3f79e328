"""`SharedClient`: an HTTP client that many workflows use at once and none of them owns."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self

from httpx2 import AsyncByteStream, AsyncClient, Limits, Request, Response, Timeout

from nexus_core.types.trace import trace_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nexus_pools.web import HttpPool

IDLE_SECONDS = 30.0
"""How long a connection without work is kept."""


class SharedClient(AsyncClient):
    """Sends requests, at most so many at once.

    Args:
        pool: Whose limits hold.
    """

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        super().__init__(
            timeout=Timeout(pool.timeout),
            limits=Limits(
                max_connections=pool.limit, max_keepalive_connections=pool.size, keepalive_expiry=IDLE_SECONDS
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # they would be sent for every caller
        )

    async def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """Send a request when it is its turn. A streamed response has its connection until it is closed.

        Raises:
            BackendUnavailable: Its turn did not come in time.
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
            response.stream = _Held(response.stream, lambda: self._pool.give_back(taken, None))
        return response

    def idle_connections(self) -> int:
        """Return how many connections are open without work."""
        transports = [self._transport, *self._mounts.values()]
        pools = [getattr(each, "_pool", None) for each in transports if each is not None]
        return sum(connection.is_idle() for pool in pools for connection in getattr(pool, "connections", ()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave it open: it is everybody's."""

    async def aclose(self) -> None:
        """Leave it open: it is everybody's."""

    async def end(self) -> None:
        """Close every connection."""
        await super().aclose()


class _Held(AsyncByteStream):
    """A response's body, which frees the place of its request when it is closed."""

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
