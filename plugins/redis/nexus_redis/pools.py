"""Pools of connections that wait for nobody: no retries, no time limits of their own, no round trips for politeness."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import RedisSSLContext
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_redis.address import Address

IDLE_SECONDS = 30
"""After so long without use a connection is tried before it is used, or closed when there are more than enough."""


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool whose connections lead to the server that sentinels name, and that waits when all are in use."""


class _TlsConnection(SSLConnection):
    """A connection that shares its context with the others: each would load every certificate of the system anew."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared


def make_pool(address: Address, max_connections: int, timeout: float) -> BlockingConnectionPool:
    """Return a pool that connects when it is first used.

    Args:
        address: Where to.
        max_connections: How many connections at most.
        timeout: Seconds that connecting and a command may take together.

    Raises:
        ConfigurationError: Certificates can't be loaded.
    """
    options: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.db,
        "max_connections": max_connections,
        "timeout": None,  # of all time limits the client's own is the shortest
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": IDLE_SECONDS,
        "protocol": 2,  # needs no HELLO
        "driver_info": None,
    }
    if address.service:
        # Each sentinel may take its part of the time only: the next one is asked then.
        share = timeout / (len(address.hosts) + 1)
        plain: dict[str, Any] = {
            "socket_timeout": share,
            "socket_connect_timeout": share,
            "driver_info": None,
            "protocol": 2,
        }
        plain["retry"] = Retry(NoBackoff(), 0)
        sentinels = Sentinel(list(address.hosts), sentinel_kwargs=plain)  # type: ignore[no-untyped-call]
        return _SentinelPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]
    if address.path:
        return BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **options)
    host, port = address.hosts[0]
    if address.tls is not None:
        options |= {"connection_class": _TlsConnection, "shared": _tls_context(address.tls)}
    return BlockingConnectionPool(host=host, port=port, **options)


def _tls_context(given: dict[str, Any]) -> RedisSSLContext:
    """Return a context that is loaded already."""
    names = {name.removeprefix("ssl_"): value for name, value in given.items()}
    options: dict[str, Any] = {"cert_reqs": "required", "check_hostname": True}
    context = RedisSSLContext(**options | names)
    try:
        context.get()
    except (ssl.SSLError, OSError) as exc:
        raise ConfigurationError(f"redis_url: its certificates can't be loaded: {exc.strerror or exc}") from None
    return context


async def drop_idle(pool: BlockingConnectionPool) -> None:
    """Disconnect every connection that is not in use: each connects anew when it is used next."""
    for connection in list(pool._available_connections):
        await connection.disconnect(nowait=True)


async def trim(pool: BlockingConnectionPool, size: int) -> None:
    """Close connections beyond ``size`` that nobody has used for a while. The pool uses the latest first."""
    idle, now = pool._available_connections, asyncio.get_running_loop().time()
    while len(idle) > size and idle[0].next_health_check < now:
        await idle.pop(0).disconnect(nowait=True)


async def close(pool: BlockingConnectionPool) -> None:
    """Disconnect everything, and wait for nobody."""
    for connection in [*pool._available_connections, *pool._in_use_connections]:
        await connection.disconnect(nowait=True)
    if isinstance(pool, _SentinelPool):
        await pool.sentinel_manager.aclose()
