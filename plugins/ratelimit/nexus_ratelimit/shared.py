"""`SharedCounters`: counters in a store, for all processes; in this process's memory while it is unavailable."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING

from nexus_ratelimit.counters import SWEEP, LimitDecision, LocalCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus_toolkit.outage_log import OutageLog

    from nexus_core.state.stores import CountingStore
    from nexus_ratelimit.limits import Budget


class ExhaustedBudgets:
    """Budgets that are known to be exhausted, and until when. Until then they need no request to the store.

    Args:
        max_keys: Maximum number of budgets. The oldest are evicted.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(self, max_keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_keys = max_keys
        self._clock = clock
        self._expiries: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiries)

    def note(self, decision: LimitDecision) -> bool:
        """Remember a budget if it is exhausted. Returns whether it was not known to be."""
        if decision.left > 0:
            return False
        now, (key, _) = self._clock(), decision.budget
        is_news = key not in self._expiries
        self._expiries[key] = now + decision.reset
        self._expiries.move_to_end(key)
        for _ in range(SWEEP):
            if next(iter(self._expiries.values())) <= now or len(self._expiries) > self._max_keys:
                self._expiries.popitem(last=False)
        return is_news

    def refusal(self, budget: Budget) -> LimitDecision | None:
        """Return the refusal if the budget is known to be exhausted, else None."""
        until = self._expiries.get(budget[0])
        if until is None:
            return None
        seconds = until - self._clock()
        return LimitDecision(False, budget, 0, math.ceil(seconds * 1000) / 1000) if seconds > 0 else None


class SharedCounters:
    """See `Counters`. One round trip for each budget, and none for budgets known to be exhausted.

    Of several budgets, those before the one that refuses have counted the call.

    Args:
        store: The store.
        strategy: One of `STRATEGIES`.
        local: The counters while the store is unavailable.
        outage: The log of the store's outages.
        exhausted: The exhausted budgets.
    """

    def __init__(
        self, store: CountingStore, strategy: str, local: LocalCounters, outage: OutageLog, exhausted: ExhaustedBudgets
    ) -> None:
        self._store = store
        self._strategy = strategy
        self._local = local
        self._outage = outage
        self._exhausted = exhausted

    async def hit(self, budgets: Sequence[Budget]) -> LimitDecision:
        """See `Counters.hit`."""
        for budget in budgets:
            if refusal := self._exhausted.refusal(budget):
                return refusal
        try:
            decision = await self._shared_hit(budgets)
        except Exception as exc:  # also of third-party stores
            self._outage.failed(exc)
            return self._local.hit_now(budgets)
        self._outage.succeeded()
        return decision

    async def _shared_hit(self, budgets: Sequence[Budget]) -> LimitDecision:
        found = []
        for budget in budgets:
            key, limit = budget
            answer = await self._store.hit(f"ratelimit:{key}", limit.calls, limit.window, self._strategy)
            allowed, left, reset = answer
            decision = LimitDecision(allowed, budget, left, max(1, math.ceil(reset * 1000)) / 1000)
            self._exhausted.note(decision)
            if not allowed:
                return decision
            found.append(decision)
        return min(found, key=attrgetter("left"))
