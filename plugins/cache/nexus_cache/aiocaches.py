"""Adapters between aiocache and Nexus: any store as an aiocache cache, and any aiocache cache as a store."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, TypeVar

from aiocache import SimpleMemoryCache  # type: ignore[import-untyped]
from aiocache.base import BaseCache  # type: ignore[import-untyped]
from aiocache.serializers import JsonSerializer  # type: ignore[import-untyped]

from nexus_core import BackendUnavailable
from nexus_core.options.settings import MAX_SECONDS
from nexus_core.state.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nexus_core.state.stores import Store

Value = TypeVar("Value")


class StoreCache(BaseCache):  # type: ignore[misc]
    """An aiocache cache with its values in a store of Nexus: ``StoreCache(nexus.store("redis", "..."))``.

    Values are JSON unless another serializer is given, which must return text or bytes. The store has its own time
    limit; ``timeout`` adds another one. aiocache 0.12 calls the underscored methods of its backends.

    Args:
        store: The store.
        options: Options of aiocache: ``namespace``, ``ttl``, ``plugins``, ``serializer``, ``timeout``.

    Attributes:
        store: The store.
    """

    NAME = "nexus"

    def __init__(self, store: Store, **options: Any) -> None:
        super().__init__(**{"serializer": JsonSerializer(), "timeout": 0} | options)
        self.store = store

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> str | bytes | None:
        value = await self.store.get(key)
        return value if value is None or encoding is None else value.decode(encoding)

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> str | bytes | None:
        return await self._get(key, encoding)

    async def _multi_get(
        self, keys: Iterable[str], encoding: str | None = "utf-8", _conn: Any = None
    ) -> list[str | bytes | None]:
        return [await self._get(key, encoding) for key in keys]

    async def _set(
        self, key: str, value: str | bytes, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None
    ) -> bool:
        if _cas_token is not None:
            return await self.store.replace(key, _bytes(_cas_token), _bytes(value), _seconds(ttl))
        await self.store.set(key, _bytes(value), _seconds(ttl))
        return True

    async def _multi_set(
        self, pairs: Iterable[tuple[str, str | bytes]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl)
        return True

    async def _add(self, key: str, value: str | bytes, ttl: float | None = None, _conn: Any = None) -> bool:
        if await self.store.add(key, _bytes(value), _seconds(ttl)) is not None:
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self.store.get(key) is not None

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        while True:
            there = await self.store.add(key, str(delta).encode(), MAX_SECONDS)
            if there is None:
                return delta
            try:
                value = int(there) + delta
            except ValueError:
                raise TypeError("Value is not an integer") from None
            if await self.store.replace(key, there, str(value).encode(), MAX_SECONDS):
                return value

    async def _expire(self, key: str, ttl: float | None, _conn: Any = None) -> bool:
        there = await self.store.get(key)
        return there is not None and await self.store.replace(key, there, there, _seconds(ttl))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return int(await self.store.delete(key))

    async def _redlock_release(self, key: str, value: str) -> int:
        return int(await self.store.delete(key, _bytes(value)))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        raise NotImplementedError("A store of Nexus does not list its keys, so it can't be cleared.")


class MemoryCache(StoreCache, SimpleMemoryCache):  # type: ignore[misc]
    """aiocache's memory cache with bounds: the least recently used values are evicted.

    Args:
        max_entries: Maximum number of values.
        max_bytes: Maximum bytes of keys and values.
        options: See `StoreCache`.
    """

    NAME = "memory"

    def __init__(self, max_entries: int = 10_000, max_bytes: int = 64 * 1024 * 1024, **options: Any) -> None:
        super().__init__(MemoryStore(max_entries, max_bytes), **options)

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        assert isinstance(self.store, MemoryStore)
        self.store.clear(namespace or "")
        return True


def as_store(cache: BaseCache, timeout: float) -> Store:
    """Return an aiocache cache as a store.

    The store of a `StoreCache` without aiocache's plugins, namespace and time limit is used directly, which takes a
    tenth of the time.

    Args:
        cache: The cache. Its serializer is not used: values are stored unchanged.
        timeout: Time limit for each step, in seconds.
    """
    if isinstance(cache, StoreCache) and not (cache.plugins or cache.namespace or cache.timeout):
        return cache.store
    return AiocacheStore(cache, timeout)


class AiocacheStore:
    """A `Store` in an aiocache cache. Times are whole seconds, rounded up.

    aiocache has fewer operations than a store: `add` takes two of them, and `replace`, and `delete` with a value, are
    not atomic.

    Args:
        cache: The cache.
        timeout: Time limit for each step, in seconds.
    """

    def __init__(self, cache: BaseCache, timeout: float) -> None:
        self._cache = cache
        self._timeout = timeout
        self.name = f"aiocache {cache.NAME}"

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`. A value that is neither text nor bytes is returned as an empty one."""
        return await self._within(self._get(key))

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._within(self._set(key, value, ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        return await self._within(self._add(key, value, ttl))

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return await self._within(self._replace(key, old, new, ttl))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return await self._within(self._delete(key, value))

    async def _within(self, step: Awaitable[Value]) -> Value:
        try:
            async with asyncio.timeout(self._timeout):
                return await step
        except TimeoutError:
            raise BackendUnavailable(f"The {self.name} did not reply within {self._timeout:g} s.") from None
        except Exception as exc:
            raise BackendUnavailable(f"The {self.name} failed: {type(exc).__name__}.") from exc

    async def _get(self, key: str) -> bytes | None:
        try:
            value = await self._cache.get(key, loads_fn=_as_it_is, timeout=0)
        except UnicodeDecodeError:  # another program's value
            return b""
        if isinstance(value, str):
            return value.encode("utf-8", "replace")
        return value if value is None or isinstance(value, bytes) else b""

    async def _set(self, key: str, value: bytes, ttl: float) -> None:
        await self._cache.set(key, value, ttl=max(1, math.ceil(ttl)), dumps_fn=_as_it_is, timeout=0)

    async def _add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        while (there := await self._get(key)) is None:
            try:
                await self._cache.add(key, value, ttl=max(1, math.ceil(ttl)), dumps_fn=_as_it_is, timeout=0)
            except ValueError:
                continue  # another call was faster
            return None
        return there

    async def _replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        if await self._get(key) != old:
            return False
        await self._set(key, new, ttl)
        return True

    async def _delete(self, key: str, value: bytes | None) -> bool:
        if value is not None and await self._get(key) != value:
            return False
        return bool(await self._cache.delete(key, timeout=0))


_as_it_is: Callable[[Any], Any] = lambda value: value  # noqa: E731


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"a store holds text and bytes, not a {type(value).__name__}: use another serializer")


def _seconds(ttl: float | None) -> float:
    return ttl or MAX_SECONDS  # 0 and None mean without expiry in aiocache
