"""`SharedResultStore`: a store that several processes use. A process that works on a result holds a lease on its key.

A lease is short and renewed while the work goes on: that of a process that has died expires, or is found not to be
renewed, within `LEASE_SECONDS`. Others poll for the result. A hit costs one step of the store, a miss two: the lease,
and the result in its place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from nexus_toolkit.outage_log import OutageLog

from nexus_cache.entry import CachedResult, ResultLease, decode, encode, encode_result
from nexus_cache.result_store import NoReservation
from nexus_core import BackendUnavailable, NexusError

if TYPE_CHECKING:
    from nexus_cache.lease_wait import LeaseWait
    from nexus_cache.result_store import Reservation
    from nexus_core import Result
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

LEASE_SECONDS = 3.0
"""Lifetime of a lease that is not renewed."""

RENEW_SECONDS = 1.0
"""Seconds between two renewals."""

POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two polls for a result."""


class SharedResultStore:
    """See `ResultStore`. While the store is unavailable, every call is a miss and no result is cached.

    Args:
        store: The store.
        max_entry_bytes: Maximum size of a cached result.
    """

    def __init__(self, store: Store, max_entry_bytes: int) -> None:
        self._store = store
        self._max_entry_bytes = max_entry_bytes
        self._outage = OutageLog(log, "The cache is unavailable; calls run without it", "The cache is available again")
        self._has_warned = False

    async def take(self, key: str, ttl: float, wait: LeaseWait) -> CachedResult | Reservation:
        """See `ResultStore.take`.

        Raises:
            WorkflowTimeout: Another process works on the result for longer than this call may wait.
        """
        lease = ResultLease(secrets.token_hex(8))
        try:
            found = await self._find(key, ttl, encode(lease), wait)
        except asyncio.CancelledError:
            await self.delete(key, encode(lease))  # it may have been written
            raise
        except Exception as exc:
            if isinstance(exc, NexusError) and not isinstance(exc, BackendUnavailable):
                raise
            self._outage.failed(exc)
            return NoReservation()
        self._outage.succeeded()
        return found or _LeasedReservation(self, key, ttl, lease)

    async def _find(self, key: str, ttl: float, lease: bytes, wait: LeaseWait) -> CachedResult | None:
        """Return the result, or None once the lease is acquired."""
        text = await self._store.add(key, lease, LEASE_SECONDS)
        while text is not None:
            entry = decode(key, text)
            if isinstance(entry, CachedResult) and entry.is_fresh(ttl):
                return entry
            if isinstance(entry, ResultLease):
                wait.begin()
                now = await self._next(key, text, wait)
                if now != text:
                    text = await self._store.add(key, lease, LEASE_SECONDS) if now is None else now
                    continue
            elif entry is None:
                self._warn_of_foreign_value(key)
            if await self._store.replace(key, text, lease, LEASE_SECONDS):
                return None
            text = await self._store.add(key, lease, LEASE_SECONDS)
        return None

    async def _next(self, key: str, lease: bytes, wait: LeaseWait) -> bytes | None:
        """Wait for another value than a lease and return it; the lease if its owner must have died."""
        loop = asyncio.get_running_loop()
        expiry = loop.time() + LEASE_SECONDS
        seconds, longest = POLL_SECONDS
        text: bytes | None = lease
        while text == lease and loop.time() < expiry:
            await wait.until(loop.create_future(), seconds)
            text = await self._store.get(key)
            seconds = min(seconds * 1.5, longest)
        return text

    def _warn_of_foreign_value(self, key: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("The value of the cache key %s was not written by this program and is overwritten", key)

    async def put(self, key: str, ttl: float, result: Result) -> None:
        """Cache a result."""
        try:
            await self._store.set(key, encode_result(key, result), ttl)
        except Exception as exc:
            self._outage.failed(exc)

    async def renew(self, key: str, lease: ResultLease) -> ResultLease | None:
        """Return the renewed lease; None if it is lost."""
        renewed = ResultLease(lease.owner, lease.beat + 1)
        try:
            return renewed if await self._store.replace(key, encode(lease), encode(renewed), LEASE_SECONDS) else None
        except Exception as exc:
            self._outage.failed(exc)
            return lease

    async def delete(self, key: str, lease: bytes) -> None:
        """Delete a lease."""
        try:
            await self._store.delete(key, lease)
        except Exception as exc:  # then it expires
            self._outage.failed(exc)

    def accepts(self, result: Result) -> bool:
        """Whether a result is small enough to be cached."""
        return len(result.json) <= self._max_entry_bytes


class _LeasedReservation:
    """Renews its lease until it ends."""

    def __init__(self, store: SharedResultStore, key: str, ttl: float, lease: ResultLease) -> None:
        self._store = store
        self._key = key
        self._ttl = ttl
        self._lease = lease
        self._renewal: asyncio.Task[None] | None = None
        self._timer = self._set_timer()

    def _set_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(RENEW_SECONDS, self._start)

    def _start(self) -> None:
        self._renewal = asyncio.get_running_loop().create_task(self._renew(), name="nexus-cache-lease")

    async def _renew(self) -> None:
        lease = await self._store.renew(self._key, self._lease)
        if lease is not None:
            self._lease, self._timer = lease, self._set_timer()

    async def _stop(self) -> None:
        self._timer.cancel()
        if self._renewal is not None and not self._renewal.done():
            await asyncio.wait({self._renewal})  # not cancelled: it is one step of the store
            self._timer.cancel()

    async def put(self, result: Result) -> None:
        """See `Reservation.put`."""
        if not self._store.accepts(result):
            await self.release()
            return
        await self._stop()
        await self._store.put(self._key, self._ttl, result)

    async def release(self) -> None:
        """See `Reservation.release`."""
        await self._stop()
        await self._store.delete(self._key, encode(self._lease))
