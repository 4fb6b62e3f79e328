"""`RedisStore`: shared state in Redis, each step one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import BackendUnavailable
from nexus_redis.scoped import DEFAULT_LIMITS, Limits, ScopedStore
from nexus_redis.scripts import DELETE_IF, HITS, REPLACE

if TYPE_CHECKING:
    from nexus_core.state.limits import Kind
    from nexus_core.state.stores import Store
    from nexus_redis.client import RedisClient


class RedisStore:
    """See `nexus_core.state.stores`: a `Store`, a `CountingStore`, and a `BoundedStore`.

    Args:
        client: Sends the commands.
        limits: What one caller may have of each kind of state.
    """

    name = "redis"

    def __init__(self, client: RedisClient, limits: Limits = DEFAULT_LIMITS) -> None:
        self._client = client
        self._limits = limits
        self._prefix = client.prefix.encode()

    @property
    def reason(self) -> str | None:
        """Why Redis is not available, for operators; None while it is."""
        return self._client.reason

    async def ready(self) -> bool:
        """Whether Redis is available, as far as is known. Costs nothing."""
        return await self._client.ready()

    def scoped(self, kind: Kind, owner: str) -> Store:
        """See `BoundedStore.scoped`. What is evictable is for Redis' own ``maxmemory`` to bound."""
        return self if kind.is_evictable else ScopedStore(self._client, self._limits, kind, owner)

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        value: bytes | None = await self._client.execute("GET", self._key(key))
        return value

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._client.execute("SET", self._key(key), value, "PX", _milliseconds(ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`. Needs Redis 7."""
        command = ("SET", self._key(key), value, "PX", _milliseconds(ttl), "NX", "GET")
        there: bytes | None = await self._client.execute(*command)
        return there

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return _is_one(await self._client.run(REPLACE, self._key(key), old, new, _milliseconds(ttl)))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        if value is None:
            return _is_one(await self._client.execute("DEL", self._key(key)))
        return _is_one(await self._client.run(DELETE_IF, self._key(key), value))

    async def hit(self, key: str, limit: int, window: float, strategy: str) -> tuple[bool, int, float]:
        """See `CountingStore.hit`. Each strategy keeps its counts apart from the others' and from values."""
        where = self._key(f"{strategy}:{key}")
        microseconds = max(1000, round(window * 1_000_000))
        match await self._client.run(HITS[strategy], where, limit, microseconds):
            case [int(allowed), int(left), int(reset)]:
                return allowed == 1, left, reset / 1_000_000
        raise BackendUnavailable("The store of shared state gave an answer that is none.")

    def _key(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _is_one(reply: Any) -> bool:
    return bool(reply == 1)
