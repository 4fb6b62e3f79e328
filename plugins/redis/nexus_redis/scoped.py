"""`ScopedRedisStore`: the store in Redis as one caller writes to it, with limits that all processes share.

In addition to the values, Redis has two keys for each account: the expiry times of its values, and their sizes.
Expired values are deducted when the caller writes the next time. Each step is one round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_toolkit.accounts import Account, key_bytes

from nexus_redis.exchange import invalid_reply
from nexus_redis.scripts import SCOPED_ADD, SCOPED_DELETE, SCOPED_REPLACE, SCOPED_SET, milliseconds

if TYPE_CHECKING:
    from nexus_redis.client import RedisClient
    from nexus_redis.scripts import Script


class ScopedRedisStore:
    """See `nexus_core.state.stores.BoundedStore.scoped`.

    Args:
        client: The client.
        account: The caller's account.
    """

    name = "redis"

    def __init__(self, client: RedisClient, account: Account) -> None:
        self._client = client
        self._account = account
        self._prefix = client.prefix.encode()
        base = f"{client.prefix}account:{account.id.hex()}"
        self.keys = f"{base}:ends".encode(), f"{base}:sizes".encode()

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        value: bytes | None = await self._client.execute("GET", key_bytes(key, self._prefix))
        return value

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        self._checked(await self._run(SCOPED_SET, key, *self._allowed(ttl), value))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        reply = await self._run(SCOPED_ADD, key, *self._allowed(ttl), value)
        if isinstance(reply, list):
            there: bytes = reply[0]
            return there
        self._checked(reply)
        return None

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return self._checked(await self._run(SCOPED_REPLACE, key, *self._allowed(ttl), new, old))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return self._checked(await self._run(SCOPED_DELETE, key, *(() if value is None else (value,))))

    def _allowed(self, ttl: float) -> tuple[int, int, int]:
        limits = self._account.limits
        return milliseconds(ttl), limits.entries, limits.bytes

    async def _run(self, script: Script, key: str, *arguments: Any) -> Any:
        return await self._client.run(script, key_bytes(key, self._prefix), *self.keys, *arguments)

    def _checked(self, reply: Any) -> bool:
        """Return whether the step was taken, or raise the limit that forbids it."""
        match reply:
            case 0 | 1:
                return bool(reply)
            case b"entries" | b"bytes":
                raise self._account.limit_reached(reply.decode())
        raise invalid_reply()
