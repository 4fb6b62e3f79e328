"""`SharedShelf`: a store that other processes use too. Whoever works on a result claims its place there.

A claim is short-lived and renewed while the work goes on: one whose owner has died is gone, or seen not to beat any
more, within `CLAIM_SECONDS`. Others ask for the result until it is there. A hit costs one step of the store, a miss
two: the claim, and the result in its place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from nexus_cache.entry import Claim, Kept, decode, encode, keep
from nexus_cache.shelf import NoPlace, Outage
from nexus_core import BackendUnavailable, NexusError

if TYPE_CHECKING:
    from nexus_cache.shelf import Place
    from nexus_cache.waiting import Wait
    from nexus_core import Result
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

CLAIM_SECONDS = 3.0
"""How long a claim lives that is not renewed."""

RENEW_SECONDS = 1.0
"""How often it is renewed."""

ASK_SECONDS = (0.02, 0.25)
"""How long after one question whether the result is there the next one comes, at first and in the end."""


class SharedShelf:
    """See `Shelf`. While the store does not answer, nothing is found and nothing kept.

    Args:
        store: The store.
        max_entry_bytes: The largest result that is kept.
    """

    def __init__(self, store: Store, max_entry_bytes: int) -> None:
        self._store = store
        self._max_entry_bytes = max_entry_bytes
        self._outage = Outage()
        self._has_met_strangers = False

    async def take(self, key: str, ttl: float, wait: Wait) -> Kept | Place:
        """See `Shelf.take`.

        Raises:
            WorkflowTimeout: Somebody else works on it for longer than this caller waits.
        """
        claim = Claim(secrets.token_hex(8))
        try:
            found = await self._find(key, ttl, encode(claim), wait)
        except asyncio.CancelledError:
            await self.forget(key, encode(claim))  # it may be there already
            raise
        except Exception as exc:
            if isinstance(exc, NexusError) and not isinstance(exc, BackendUnavailable):
                raise
            self._outage.has_begun(exc)
            return NoPlace()
        self._outage.has_ended()
        return found or _ClaimedPlace(self, key, ttl, claim)

    async def _find(self, key: str, ttl: float, claim: bytes, wait: Wait) -> Kept | None:
        """Return the result, or None once the place is claimed."""
        there = await self._store.add(key, claim, CLAIM_SECONDS)
        while there is not None:
            entry = decode(key, there)
            if isinstance(entry, Kept) and entry.is_fresh(ttl):
                return entry
            if isinstance(entry, Claim):
                wait.begin()
                now = await self._next(key, there, wait)
                if now != there:
                    there = await self._store.add(key, claim, CLAIM_SECONDS) if now is None else now
                    continue
            elif entry is None:
                self._meet_stranger(key)
            if await self._store.replace(key, there, claim, CLAIM_SECONDS):
                return None
            there = await self._store.add(key, claim, CLAIM_SECONDS)
        return None

    async def _next(self, key: str, claim: bytes, wait: Wait) -> bytes | None:
        """Wait until there is something else than a claim, and return it; the claim when its owner must have died."""
        loop = asyncio.get_running_loop()
        dead_at = loop.time() + CLAIM_SECONDS
        seconds, longest = ASK_SECONDS
        there: bytes | None = claim
        while there == claim and loop.time() < dead_at:
            await wait.until(loop.create_future(), seconds)
            there = await self._store.get(key)
            seconds = min(seconds * 1.5, longest)
        return there

    def _meet_stranger(self, key: str) -> None:
        if not self._has_met_strangers:
            self._has_met_strangers = True
            log.warning("What the cache has under %s was not written by this program: it is not used", key)

    async def put(self, key: str, ttl: float, result: Result) -> None:
        """Keep a result."""
        try:
            await self._store.set(key, keep(key, result), ttl)
        except Exception as exc:
            self._outage.has_begun(exc)

    async def renew(self, key: str, claim: Claim) -> Claim | None:
        """Return the claim that has taken the place of an older one; None when that was not there any more."""
        newer = Claim(claim.owner, claim.beat + 1)
        try:
            return newer if await self._store.replace(key, encode(claim), encode(newer), CLAIM_SECONDS) else None
        except Exception as exc:
            self._outage.has_begun(exc)
            return claim

    async def forget(self, key: str, claim: bytes) -> None:
        """Take a claim away."""
        try:
            await self._store.delete(key, claim)
        except Exception as exc:  # then it ends by itself
            self._outage.has_begun(exc)

    def holds(self, result: Result) -> bool:
        """Whether a result is small enough to be kept."""
        return len(result.json) <= self._max_entry_bytes


class _ClaimedPlace:
    """Renews its claim until there is a result."""

    def __init__(self, shelf: SharedShelf, key: str, ttl: float, claim: Claim) -> None:
        self._shelf = shelf
        self._key = key
        self._ttl = ttl
        self._claim = claim
        self._renewal: asyncio.Task[None] | None = None
        self._timer = self._set_timer()

    def _set_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(RENEW_SECONDS, self._start)

    def _start(self) -> None:
        self._renewal = asyncio.get_running_loop().create_task(self._renew(), name="nexus-cache-claim")

    async def _renew(self) -> None:
        claim = await self._shelf.renew(self._key, self._claim)
        if claim is not None:
            self._claim, self._timer = claim, self._set_timer()

    async def _stop(self) -> None:
        self._timer.cancel()
        if self._renewal is not None and not self._renewal.done():
            await asyncio.wait({self._renewal})  # not cut short: it is one step of the store
            self._timer.cancel()

    async def put(self, result: Result) -> None:
        """See `Place.put`."""
        if not self._shelf.holds(result):
            await self.give_up()
            return
        await self._stop()
        await self._shelf.put(self._key, self._ttl, result)

    async def give_up(self) -> None:
        """See `Place.give_up`."""
        await self._stop()
        await self._shelf.forget(self._key, encode(self._claim))
