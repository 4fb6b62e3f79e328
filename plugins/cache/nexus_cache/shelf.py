"""`Shelf`: where results are kept. Who finds none there gets the place to put one."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from nexus_cache.entry import Kept, decode, keep
from nexus_core.state.limits import CACHED_RESULTS
from nexus_core.state.stores import scoping

if TYPE_CHECKING:
    from nexus_cache.waiting import Wait
    from nexus_core import Result
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""How long after one complaint about an outage the next one is logged at the earliest."""


class Place(Protocol):
    """Where a result that is being worked on will be."""

    async def put(self, result: Result) -> None:
        """Keep the result."""

    async def give_up(self) -> None:
        """Leave the work to somebody else."""


class Shelf(Protocol):
    """Keeps results."""

    async def take(self, key: str, ttl: float, wait: Wait) -> Kept | Place:
        """Return what is there, or the place for it.

        Args:
            key: The key.
            ttl: Seconds for which a result is kept.
            wait: Begun where somebody else works on the result already, and is waited for.
        """


class NoPlace:
    """The place where nothing is kept, because the store does not answer."""

    async def put(self, result: Result) -> None:
        """See `Place.put`."""

    async def give_up(self) -> None:
        """See `Place.give_up`."""


class LocalShelf:
    """A store that nobody else uses. It does not fail, and does not wait.

    Args:
        store: The store.
        max_entry_bytes: The largest result that is kept.
    """

    def __init__(self, store: Store, max_entry_bytes: int) -> None:
        self._store = store
        self._scoped = scoping(store)
        self._max_entry_bytes = max_entry_bytes

    async def take(self, key: str, ttl: float, wait: Wait) -> Kept | Place:
        """See `Shelf.take`."""
        text = await self._store.get(key)
        entry = None if text is None else decode(key, text)
        if isinstance(entry, Kept):
            return entry
        return _LocalPlace(self._scoped(CACHED_RESULTS, wait.payer), key, ttl, self._max_entry_bytes)


class _LocalPlace:
    __slots__ = ("_key", "_max_bytes", "_store", "_ttl")

    def __init__(self, store: Store, key: str, ttl: float, max_bytes: int) -> None:
        self._store = store
        self._key = key
        self._ttl = ttl
        self._max_bytes = max_bytes

    async def put(self, result: Result) -> None:
        if len(result.json) <= self._max_bytes:
            await self._store.set(self._key, keep(self._key, result), self._ttl)

    async def give_up(self) -> None:
        pass


class Outage:
    """Tells the log when a store stops to answer, and when it does again: once each, and not every second."""

    def __init__(self) -> None:
        self._is_away = False
        self._told = -QUIET_SECONDS

    def has_begun(self, exc: Exception) -> None:
        """Note that the store did not answer."""
        if not self._is_away and time.monotonic() - self._told >= QUIET_SECONDS:
            self._is_away, self._told = True, time.monotonic()
            log.warning("The cache can't be used, and calls run without it: %s: %s", type(exc).__name__, exc)

    def has_ended(self) -> None:
        """Note that it did."""
        if self._is_away:
            self._is_away = False
            log.info("The cache can be used again")
