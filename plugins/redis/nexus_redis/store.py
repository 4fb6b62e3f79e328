"""`RedisStore`: shared state in Redis. Each step is one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_toolkit.accounts import Account, CallerLimits, key_bytes

from nexus_redis.exchange import invalid_reply
from nexus_redis.scoped import ScopedRedisStore
from nexus_redis.scripts import DELETE_IF, HITS, REPLACE, milliseconds

if TYPE_CHECKING:
    from nexus_core.state.limits import Kind
    from nexus_core.state.stores import Store
    from nexus_redis.client import RedisClient


class RedisStore:
    """See `nexus_core.state.stores`: a `Store`, a `CountingStore` and a `BoundedStore`.

    Args:
        client: The client.
        limits: What one caller may store of each kind of state.

    Attributes:
        client: The client.
    """

    name = "redis"

    def __init__(self, client: RedisClient, limits: CallerLimits | None = None) -> None:
        self.client = client
        self._limits = limits or CallerLimits()
        self._prefix = client.prefix.encode()

    @property
    def reason(self) -> str | None:
        """Why Redis is unavailable, for operators; None while it is available."""
        return self.client.reason

    async def ready(self) -> bool:
        """Return whether Redis is available, from the latest check: this sends nothing."""
        return self.client.reason is None

    def scoped(self, kind: Kind, owner: str) -> Store:
        """See `BoundedStore.scoped`. Evictable values are bounded by Redis' own ``maxmemory``."""
        if kind.is_evictable:
            return self
        return ScopedRedisStore(self.client, Account(self.name, self._limits, kind, owner))

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        value: bytes | None = await self.client.execute("GET", self._key(key))
        return value

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self.client.execute("SET", self._key(key), value, "PX", milliseconds(ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`. Needs Redis 7."""
        command = ("SET", self._key(key), value, "PX", milliseconds(ttl), "NX", "GET")
        there: bytes | None = await self.client.execute(*command)
        return there

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return _is_one(await self.client.run(REPLACE, self._key(key), old, new, milliseconds(ttl)))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        if value is None:
            return _is_one(await self.client.execute("DEL", self._key(key)))
        return _is_one(await self.client.run(DELETE_IF, self._key(key), value))

    async def hit(self, key: str, limit: int, window: float, strategy: str) -> tuple[bool, int, float]:
        """See `CountingStore.hit`. Counts of different strategies, and values, have separate keys."""
        counter = self._key(f"{strategy}:{key}")
        microseconds = max(1000, round(window * 1_000_000))
        match await self.client.run(HITS[strategy], counter, limit, microseconds):
            case [int(allowed), int(left), int(reset)]:
                return allowed == 1, left, reset / 1_000_000
        raise invalid_reply()

    def _key(self, key: str) -> bytes:
        return key_bytes(key, self._prefix)


def _is_one(reply: Any) -> bool:
    return bool(reply == 1)
