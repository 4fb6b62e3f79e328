"""All access to private names of the libraries of this plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx2 import AsyncClient


def idle_connections(client: AsyncClient) -> int:
    """Return how many connections of a client are open and idle.

    httpx2 makes its transports and their pools public nowhere. Fits httpx2 2.x; a transport without such a pool counts
    as none.
    """
    transports = [client._transport, *client._mounts.values()]
    pools = [getattr(each, "_pool", None) for each in transports if each is not None]
    return sum(connection.is_idle() for pool in pools for connection in getattr(pool, "connections", ()))
