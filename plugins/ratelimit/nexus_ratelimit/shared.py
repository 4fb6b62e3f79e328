"""`SharedCounters`: budgets in a store, for all processes together; and in this process's memory while it is away."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING

from nexus_ratelimit.counters import SWEEP, LocalCounters, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus_core.state.stores import CountingStore
    from nexus_ratelimit.limits import Budget

log = logging.getLogger(__name__)

QUIET_SECONDS = 1.0
"""How long nothing must have failed before the store counts as back."""


class Outage:
    """Says once that the store is away, and once that it is back.

    Args:
        store: The store's name.
        clock: Returns the time in seconds, which never goes back.
    """

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._failed_at: float | None = None

    def has_failed(self, exc: Exception) -> None:
        """Note that the store has not answered."""
        if self._failed_at is None:
            log.warning("The store %s is away: each process limits calls for itself (%s)", self._store, exc)
        self._failed_at = self._clock()

    def has_answered(self) -> None:
        """Note that it has."""
        if self._failed_at is not None and self._clock() - self._failed_at > QUIET_SECONDS:
            self._failed_at = None
            log.info("The store %s is back: calls are limited for all processes together", self._store)


class Spent:
    """Budgets that are known to be used up, and until when: to ask again before would be in vain.

    Args:
        max_keys: How many are known. The oldest make room.
        clock: Returns the time in seconds, which never goes back.
    """

    def __init__(self, max_keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_keys = max_keys
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, verdict: Verdict) -> bool:
        """Note the state of a budget, if nothing is left of it. Returns whether that is news."""
        if verdict.left > 0:
            return False
        now, (key, _) = self._clock(), verdict.budget
        is_news = key not in self._until
        self._until[key] = now + verdict.reset
        self._until.move_to_end(key)
        for _ in range(SWEEP):
            if next(iter(self._until.values())) <= now or len(self._until) > self._max_keys:
                self._until.popitem(last=False)
        return is_news

    def refusal(self, budget: Budget) -> Verdict | None:
        """Return what is known to refuse a call, or None."""
        until = self._until.get(budget[0])
        if until is None:
            return None
        seconds = until - self._clock()
        return Verdict(False, budget, 0, math.ceil(seconds * 1000) / 1000) if seconds > 0 else None


class SharedCounters:
    """See `Counters`. One round trip for each budget, and none for those that are known to be used up.

    Of several budgets, those before the one that refuses have had the call taken from them.

    Args:
        store: Where calls are counted.
        strategy: How.
        local: Counts while the store does not answer.
        outage: Told whether the store answers.
        spent: Where budgets are noted that are used up.
    """

    def __init__(self, store: CountingStore, strategy: str, local: LocalCounters, outage: Outage, spent: Spent) -> None:
        self._store = store
        self._strategy = strategy
        self._local = local
        self._outage = outage
        self._spent = spent

    async def hit(self, budgets: Sequence[Budget]) -> Verdict:
        """See `Counters.hit`."""
        for budget in budgets:
            if refusal := self._spent.refusal(budget):
                return refusal
        try:
            verdict = await self._ask(budgets)
        except Exception as exc:  # a store may be anybody's
            self._outage.has_failed(exc)
            return self._local.hit_now(budgets)
        self._outage.has_answered()
        return verdict

    async def _ask(self, budgets: Sequence[Budget]) -> Verdict:
        found = []
        for budget in budgets:
            key, limit = budget
            answer = await self._store.hit(f"ratelimit:{key}", limit.calls, limit.window, self._strategy)
            allowed, left, reset = answer
            verdict = Verdict(allowed, budget, left, max(1, math.ceil(reset * 1000)) / 1000)
            self._spent.note(verdict)
            if not allowed:
                return verdict
            found.append(verdict)
        return min(found, key=attrgetter("left"))
