"""`ResultStore`: the store of cached results. A miss reserves the key for the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nexus_cache.entry import CachedResult, decode, encode_result
from nexus_core.state.limits import CACHED_RESULTS
from nexus_core.state.stores import scoping

if TYPE_CHECKING:
    from nexus_cache.lease_wait import LeaseWait
    from nexus_core import Result
    from nexus_core.state.stores import Store


class Reservation(Protocol):
    """The reserved key of a result that is being worked on."""

    async def put(self, result: Result) -> None:
        """Cache the result."""

    async def release(self) -> None:
        """Let another call do the work."""


class ResultStore(Protocol):
    """Stores results."""

    async def take(self, key: str, ttl: float, wait: LeaseWait) -> CachedResult | Reservation:
        """Return the cached result, or reserve its key.

        Args:
            key: The key.
            ttl: Lifetime of a result in seconds.
            wait: Begun if another process is working on the result, which is waited for.
        """


class NoReservation:
    """The reservation while the store is unavailable: the result is not cached."""

    async def put(self, result: Result) -> None:
        """See `Reservation.put`."""

    async def release(self) -> None:
        """See `Reservation.release`."""


class LocalResultStore:
    """A `ResultStore` of one process. It never fails and never waits.

    Args:
        store: The store.
        max_entry_bytes: Maximum size of a cached result.
    """

    def __init__(self, store: Store, max_entry_bytes: int) -> None:
        self._store = store
        self._scoped = scoping(store)
        self._max_entry_bytes = max_entry_bytes

    async def take(self, key: str, ttl: float, wait: LeaseWait) -> CachedResult | Reservation:
        """See `ResultStore.take`."""
        text = await self._store.get(key)
        entry = None if text is None else decode(key, text)
        if isinstance(entry, CachedResult):
            return entry
        return _LocalReservation(self._scoped(CACHED_RESULTS, wait.payer), key, ttl, self._max_entry_bytes)


class _LocalReservation(NoReservation):
    __slots__ = ("_key", "_max_bytes", "_store", "_ttl")

    def __init__(self, store: Store, key: str, ttl: float, max_bytes: int) -> None:
        self._store = store
        self._key = key
        self._ttl = ttl
        self._max_bytes = max_bytes

    async def put(self, result: Result) -> None:
        if len(result.json) <= self._max_bytes:
            await self._store.set(self._key, encode_result(self._key, result), self._ttl)
