"""`MemoryStore`: the `Store` of one process, with limits for the whole and for each caller."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.state.limits import Kind, limit_reached
from nexus_core.state.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nexus_core.state.shares import Share
    from nexus_core.state.stores import Store

Value = TypeVar("Value")

MEMORY = "memory"
"""The name of the store in this process's memory."""

ANYBODYS = Kind("values", "", is_evictable=True)
"""The kind of values without an owner: put there without `MemoryStore.scoped`."""

_account: ContextVar[tuple[Kind, str]] = ContextVar("nexus_memory_account", default=(ANYBODYS, ""))
"""What is being stored, and for whom: a step of a subclass, which may wait, passes it on without knowing of it."""


class _StoredValue:
    __slots__ = ("due", "ends", "is_pinned", "share", "value")

    def __init__(self, value: bytes, ends: float, share: Share, is_pinned: bool) -> None:
        self.value = value
        self.ends = ends
        self.share = share
        self.is_pinned = is_pinned
        self.due = math.ceil(ends) if is_pinned and ends < math.inf else 0


class MemoryStore:
    """The `Store` of one process, bounded. Every step takes the same time however much is stored.

    What `scoped` puts there stays until it expires or is deleted, unless its kind is evictable. A caller may have so
    much of each kind as the limits say, and never more than is left free for all others: one caller can fill half of
    the store, the next half of what is left, and no caller all of it. What is evictable makes room for everything else:
    first goes what was used longest ago by the one who has the most.

    Args:
        max_entries: How many values it holds.
        max_bytes: How many bytes of keys and values it holds. A value that is larger is not stored at all.
        clock: Returns the time in seconds, which never goes back.
        caller_max_bytes: How many bytes of one kind a caller may have; None for what the store allows.
    """

    name = MEMORY

    def __init__(
        self,
        max_entries: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        *,
        caller_max_bytes: int | None = None,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._caller_max_bytes = max_bytes if caller_max_bytes is None else caller_max_bytes
        self._clock = clock
        self._entries: dict[str, _StoredValue] = {}
        self._pinned = Shares()
        self._evictable = Shares()
        self._due: dict[int, dict[str, None]] = {}
        self._swept = -1

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """The bytes of its keys and values."""
        return self._pinned.size + self._evictable.size

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so."""
        return [key for key in self._entries if key.startswith(prefix)]

    def clear(self, prefix: str = "") -> None:
        """Take away every value whose key begins so."""
        for key in self.keys(prefix):
            self._drop(key)

    def scoped(self, kind: Kind, owner: str) -> Store:
        """See `nexus_core.state.stores.BoundedStore.scoped`."""
        return _Scoped(self, kind, owner)

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return self._read(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        self._write(key, value, ttl)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        there = self._read(key)
        if there is None:
            self._write(key, value, ttl)
        return there

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        if self._read(key) != old:
            return False
        self._write(key, new, ttl)
        return True

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        there = self._read(key)
        if there is None or value not in (None, there):
            return False
        self._drop(key)
        return True

    def _read(self, key: str) -> bytes | None:
        """Return the value that has not expired, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends <= self._clock():
            self._drop(key)
            return None
        if not entry.is_pinned:
            entry.share.sizes.move_to_end(key)
        return entry.value

    def _write(self, key: str, value: bytes, ttl: float) -> None:
        """Put a value there. One that is in the place of another belongs to the same caller as that.

        Raises:
            StateLimitReached: It is more than the caller may have.
        """
        kind, owner = _account.get()
        if not kind.is_evictable:
            self._sweep()
        size, before = len(key) + len(value), self._entries.get(key)
        owner = f"{kind.name} {owner}" if before is None else before.share.owner
        is_pinned = not kind.is_evictable if before is None else before.is_pinned
        if is_pinned and ttl > 0:
            self._check(kind, owner, key, size)
        if before is not None:
            self._drop(key)
        if size > self._max_bytes or not ttl > 0:  # what can't stay must not drive others out
            return
        share = (self._pinned if is_pinned else self._evictable).add(owner, key, size)
        entry = self._entries[key] = _StoredValue(value, self._clock() + ttl, share, is_pinned)
        if entry.due:
            self._due.setdefault(entry.due, {})[key] = None
        self._make_room()

    def _check(self, kind: Kind, owner: str, key: str, size: int) -> None:
        """Refuse what is more than a caller may have."""
        share = self._pinned.of(owner)
        before = share.sizes.get(key)
        growth = size - (before or 0)
        if growth <= 0:
            return
        if share.size + growth > self._caller_max_bytes:
            raise limit_reached(kind, f"{self._caller_max_bytes} bytes (store_caller_max_bytes)")
        if share.size + growth > self._max_bytes - self._pinned.size - growth:
            taken = f"all callers have stored {self._pinned.size} of {self._max_bytes} bytes (store_max_bytes)"
            raise limit_reached(kind, f"{taken}, and no caller may have more than is left")
        if before is None and len(share.sizes) + 1 > self._max_entries - self._pinned.count - 1:
            taken = f"all callers have stored {self._pinned.count} of {self._max_entries} values"
            raise limit_reached(kind, f"{taken}, and no caller may have more than is left")

    def _make_room(self) -> None:
        while self.size > self._max_bytes or len(self._entries) > self._max_entries:
            self._drop(next(iter(self._evictable.heaviest().sizes)))

    def _sweep(self) -> None:
        """Drop the pinned values that have expired: nothing else would take them away."""
        now = math.floor(self._clock())
        if now <= self._swept:
            return
        seconds = range(self._swept, now + 1)
        self._swept = now
        for second in seconds if len(seconds) < len(self._due) else [each for each in self._due if each <= now]:
            for key in self._due.pop(second, ()):
                self._drop(key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        (self._pinned if entry.is_pinned else self._evictable).remove(entry.share, key)
        keys = self._due.get(entry.due) if entry.due else None
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._due[entry.due]


class _Scoped:
    """A `MemoryStore` as one caller writes to it."""

    __slots__ = ("_kind", "_owner", "_store", "name")

    def __init__(self, store: MemoryStore, kind: Kind, owner: str) -> None:
        self.name = store.name
        self._store = store
        self._kind = kind
        self._owner = owner

    async def get(self, key: str) -> bytes | None:
        return await self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        await self._charged(self._store.set(key, value, ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        return await self._charged(self._store.add(key, value, ttl))

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        return await self._charged(self._store.replace(key, old, new, ttl))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        return await self._store.delete(key, value)

    async def _charged(self, step: Coroutine[Any, Any, Value]) -> Value:
        token = _account.set((self._kind, self._owner))
        try:
            return await step
        finally:
            _account.reset(token)
