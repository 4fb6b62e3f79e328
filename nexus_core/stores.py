"""`Store`: small values under keys, for a while. What the gateway's features keep their state in.

The store of this process's memory is here; others come from plugins (``nexus_register_stores``) and are shared by
every process that uses them. The option ``store`` chooses one by name, for all features or, with an option of their
own such as ``cache_backend``, for one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MEMORY = "memory"
"""The name of the store in this process's memory."""


@runtime_checkable
class Store(Protocol):
    """Values under keys. Each method is one step that nobody else's can divide, and one round trip where it is remote.

    Every method raises `BackendUnavailable` when the store does not answer in time; what then becomes of a call is for
    the feature to decide.
    """

    name: str

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none."""

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Put a value there for ``ttl`` seconds, whatever was there."""

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """Put a value there for ``ttl`` seconds if there is none, and return None; else return the one there is."""

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """Put a value in another's place for ``ttl`` seconds. Returns False where that other is not there any more."""

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """Take a value away, or only that one if it is given. Returns whether it was there."""


@runtime_checkable
class CountingStore(Store, Protocol):
    """A `Store` that counts for rate limits, which it can do in one round trip where `replace` would take many."""

    async def hit(self, key: str, limit: int, window: float, strategy: str) -> tuple[bool, int, float]:
        """Count a call, unless that is one too many.

        Args:
            key: Whose calls.
            limit: How many calls a window may have.
            window: Its length in seconds.
            strategy: ``fixed_window``, ``moving_window`` or ``sliding_window``.

        Returns:
            Whether the call is allowed, how many more are now, and the seconds until there will be more.
        """


class MemoryStore:
    """The `Store` of one process, bounded: what was used longest ago makes room.

    Args:
        max_entries: How many values it holds.
        max_bytes: How many bytes of keys and values it holds. A value that is larger is not kept at all.
        clock: Returns the time in seconds, which never goes back.
    """

    name = MEMORY

    def __init__(
        self,
        max_entries: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """The bytes of its keys and values."""
        return self._bytes

    def clear(self, prefix: str = "") -> None:
        """Take away every value whose key begins so."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            self._drop(key)

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return self._get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        self._set(key, value, ttl)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        there = self._get(key)
        if there is None:
            self._set(key, value, ttl)
        return there

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        if self._get(key) != old:
            return False
        self._set(key, new, ttl)
        return True

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        there = self._get(key)
        if there is None or value not in (None, there):
            return False
        self._drop(key)
        return True

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _set(self, key: str, value: bytes, ttl: float) -> None:
        if key in self._entries:
            self._drop(key)
        size = len(key) + len(value)
        if size > self._max_bytes or not ttl > 0:  # what can't stay must not drive others out
            return
        self._entries[key] = (value, self._clock() + ttl)
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            oldest, (dropped, _) = self._entries.popitem(last=False)
            self._bytes -= len(oldest) + len(dropped)

    def _drop(self, key: str) -> None:
        self._bytes -= len(key) + len(self._entries.pop(key)[0])


def choose_store(stores: Iterable[Store], name: str, option: str) -> Store:
    """Return the store of a name.

    Args:
        stores: Every store there is.
        name: The one that is asked for.
        option: The option that asks for it, for the error.

    Raises:
        ConfigurationError: There is none of that name.
    """
    by_name = {store.name: store for store in stores}
    if name not in by_name:
        hint = ": pip install nexus-hub-redis, and set redis_url" if name == "redis" else ""
        raise ConfigurationError(f"{option}: there is no store {name!r}, only {', '.join(sorted(by_name))}{hint}.")
    return by_name[name]
