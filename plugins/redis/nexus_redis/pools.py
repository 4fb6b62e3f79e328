"""Connection pools without retries and time limits: the client has one time limit for everything."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from nexus_core.errors import ConfigurationError
from nexus_redis._vendor_internals import (
    RedisSSLContext,
    SentinelPool,
    SharedTlsConnection,
    connections,
    idle_connections,
)

if TYPE_CHECKING:
    from nexus_redis.address import Address

IDLE_SECONDS = 30
"""Seconds without use after which a connection is tested before use, or closed if the pool has more than enough."""


def make_pool(address: Address, max_connections: int, timeout: float) -> BlockingConnectionPool:
    """Return a pool that connects at first use.

    Args:
        address: Address of the server.
        max_connections: Maximum number of connections.
        timeout: Seconds for connecting and a command together.

    Raises:
        ConfigurationError: The certificates can't be loaded.
    """
    common: dict[str, Any] = {
        "protocol": 2,  # needs no HELLO
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    options: dict[str, Any] = common | {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.db,
        "max_connections": max_connections,
        "timeout": None,  # the client's own time limit is the shortest
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "health_check_interval": IDLE_SECONDS,
    }
    if address.service:
        share = timeout / (len(address.hosts) + 1)  # so that the next sentinel can be asked within the time limit
        limits = common | {"socket_timeout": share, "socket_connect_timeout": share}
        sentinels = Sentinel(list(address.hosts), sentinel_kwargs=limits)  # type: ignore[no-untyped-call]
        return SentinelPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]
    if address.path:
        return BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **options)
    host, port = address.hosts[0]
    if address.tls is not None:
        options |= {"connection_class": SharedTlsConnection, "shared": _tls_context(address.tls)}
    return BlockingConnectionPool(host=host, port=port, **options)


def _tls_context(given: dict[str, Any]) -> RedisSSLContext:
    """Return a context whose certificates are loaded."""
    names = {name.removeprefix("ssl_"): value for name, value in given.items()}
    options: dict[str, Any] = {"cert_reqs": "required", "check_hostname": True}
    context = RedisSSLContext(**options | names)
    try:
        context.get()
    except (ssl.SSLError, OSError) as exc:
        raise ConfigurationError(f"redis_url: the certificates can't be loaded: {exc.strerror or exc}") from None
    return context


async def drop_idle(pool: BlockingConnectionPool) -> None:
    """Disconnect every unused connection. Each reconnects at its next use."""
    for connection in list(idle_connections(pool)):
        await connection.disconnect(nowait=True)


async def trim(pool: BlockingConnectionPool, size: int) -> None:
    """Close connections beyond ``size`` that have not been used for a while. The pool uses the latest first."""
    idle, now = idle_connections(pool), asyncio.get_running_loop().time()
    while len(idle) > size and idle[0].next_health_check < now:
        await idle.pop(0).disconnect(nowait=True)


async def close(pool: BlockingConnectionPool) -> None:
    """Disconnect every connection at once, those in use too."""
    for connection in connections(pool):
        await connection.disconnect(nowait=True)
    if isinstance(pool, SentinelPool):
        await pool.sentinel_manager.aclose()
