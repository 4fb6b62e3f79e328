"""Pools of connections that wait for nobody: no retries, no time limits of their own, no round trips for politeness."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from nexus_redis.address import Address

IDLE_SECONDS = 30
"""After so long without use a connection is tried before it is used, or closed when there are more than enough."""


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool whose connections lead to the server that sentinels name, and that waits when all are in use."""


def make_pool(address: Address, max_connections: int, timeout: float) -> BlockingConnectionPool:
    """Return a pool that connects when it is first used.

    Args:
        address: Where to.
        max_connections: How many connections at most.
        timeout: Seconds that one sentinel gets of the time that its user allows for everything.
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
    (host, port), tls = address.hosts[0], address.tls
    kind = Connection if tls is None else SSLConnection
    return BlockingConnectionPool(connection_class=kind, host=host, port=port, **(tls or {}), **options)


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
