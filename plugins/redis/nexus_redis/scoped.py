"""`ScopedStore`: the store in Redis as one caller writes to it, with limits that all processes share.

Beside the values, Redis has two keys for each caller and kind of state: when its values expire, and how large they are.
What has expired is taken off when the caller writes the next time. Each step is one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nexus_core.errors import BackendUnavailable
from nexus_core.state.limits import limit_reached
from nexus_redis.scripts import SCOPED_ADD, SCOPED_DELETE, SCOPED_REPLACE, SCOPED_SET

if TYPE_CHECKING:
    from nexus_core.state.limits import Kind
    from nexus_redis.client import RedisClient
    from nexus_redis.scripts import Script


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may have of each kind of state.

    Attributes:
        entries: How many values.
        bytes: How many bytes of keys and values.
    """

    entries: int
    bytes: int


DEFAULT_LIMITS = Limits(1_000_000, 256 * 1024 * 1024)


class ScopedStore:
    """See `nexus_core.state.stores.BoundedStore.scoped`.

    Args:
        client: Sends the commands.
        limits: What the caller may have.
        kind: What is stored.
        owner: Who pays for it.
    """

    name = "redis"

    def __init__(self, client: RedisClient, limits: Limits, kind: Kind, owner: str) -> None:
        self._client = client
        self._limits = limits
        self._kind = kind
        self._prefix = client.prefix.encode()
        account = sha256(f"{kind.name} {owner}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._ends, self._sizes = (f"{client.prefix}account:{account}:{what}".encode() for what in ("ends", "sizes"))

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        value: bytes | None = await self._client.execute("GET", self._key(key))
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
        return max(1, round(ttl * 1000)), self._limits.entries, self._limits.bytes

    async def _run(self, script: Script, key: str, *arguments: Any) -> Any:
        return await self._client.run(script, self._key(key), self._ends, self._sizes, *arguments)

    def _checked(self, reply: Any) -> bool:
        """Return whether a step was taken, or raise why it must not be."""
        match reply:
            case 0 | 1:
                return bool(reply)
            case b"entries":
                raise limit_reached(self._kind, f"{self._limits.entries} (redis_caller_max_entries)")
            case b"bytes":
                raise limit_reached(self._kind, f"{self._limits.bytes} bytes (redis_caller_max_bytes)")
        raise BackendUnavailable("The store of shared state gave an answer that is none.")

    def _key(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")
