"""Private names of redis-py that this plugin needs. They fit redis 8.0; look here first when it is upgraded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.asyncio.connection import RedisSSLContext as RedisSSLContext  # noqa: TC002  (for pools.py)
from redis.asyncio.sentinel import SentinelConnectionPool

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool whose connections lead to the server that sentinels name, and that waits while all are in use.

    redis-py has no such class. The two bases work together because both take connections from the same two lists.
    """


class SharedTlsConnection(SSLConnection):
    """A connection that shares its TLS context with the others; redis-py loads all certificates for each connection."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared


def idle_connections(pool: BlockingConnectionPool) -> list[AbstractConnection]:
    """Return the pool's own list of unused connections, longest unused first. redis-py only counts them."""
    return pool._available_connections


def connections(pool: BlockingConnectionPool) -> list[AbstractConnection]:
    """Return every connection of a pool. `disconnect()` of the pool itself waits for the server of each."""
    return [*pool._available_connections, *pool._in_use_connections]
