"""`ResultCache`: the stage that answers equal calls with one result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_cache.entry import Kept
from nexus_cache.flight import Flight, concerns_followers, led_here
from nexus_cache.waiting import Wait
from nexus_core import NexusError, Stage, jsontext
from nexus_core.options.sources import MAX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_cache.counts import Counts
    from nexus_cache.manager import Advice
    from nexus_cache.plan import Plan, Plans
    from nexus_cache.shelf import Place, Shelf
    from nexus_core import Call, Invocation, Result
    from nexus_core.runs.history import RunStore


class ResultCache:
    """Answers a call with the result that is kept, or that is being worked on, for an equal one.

    Args:
        shelf: Where results are kept.
        plans: What becomes of each workflow's results.
        advice: What the user's manager says.
        runs: Where runs are kept.
        timeout: Seconds that a call may take unless its workflow or its caller says otherwise; None for no limit.
        counts: Told what becomes of calls.
    """

    stage = Stage.CACHE

    def __init__(
        self, shelf: Shelf, plans: Plans, advice: Advice, runs: RunStore, timeout: float | None, counts: Counts
    ) -> None:
        self._shelf = shelf
        self._plans = plans
        self._advice = advice
        self._runs = runs
        self._timeout = timeout
        self._counts = counts
        self._flights: dict[str, Flight] = {}

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Return the answer to an equal call, or the one to this call. What is not cached passes by at once."""
        assert invocation.workflow is not None  # the resolve stage has seen to it
        plan = self._plans.of(invocation.workflow)
        return self._answer(plan, invocation, call_next) if plan.covers(invocation) else call_next(invocation)

    async def _answer(self, plan: Plan, invocation: Invocation, call_next: Call) -> Result:
        key = await self._key(plan, invocation)
        if key is None or key in led_here.get():
            return await call_next(invocation)
        wait = Wait(invocation, self._runs, self._timeout)
        while (flight := self._flights.get(key)) is not None:
            result = await flight.follow(wait)
            if result is not None:
                self._counts.joins += 1
                break
        else:
            result = await self._lead(key, plan.ttl, invocation, call_next, wait)
        if result.cached:
            wait.end(result)
        return result

    async def _key(self, plan: Plan, invocation: Invocation) -> str | None:
        """Return the key of the call's result; None when it is not to be cached."""
        limit = invocation.timeout
        if limit is not None and not 0 < limit <= MAX_SECONDS:
            return None  # the execution refuses it
        try:
            params = jsontext.canonical(invocation.given)
            if jsontext.parse_trusted(params) != invocation.given:
                return None  # a set and a list, or NaN and null, have the same text
        except (TypeError, ValueError, RecursionError):
            return None
        own: str | None = ""
        if self._advice.is_needed:
            own = await self._advice.key(invocation.name, params)
        return None if own is None else plan.key(invocation, own, params)

    async def _lead(self, key: str, ttl: float, invocation: Invocation, call_next: Call, wait: Wait) -> Result:
        """Find the result or work it out, for this call and for those that come before it is there."""
        flight = self._flights[key] = Flight()
        try:
            found = await self._shelf.take(key, ttl, wait)
            if isinstance(found, Kept):
                self._counts.hits += 1
                result = found.to_result()
                flight.land(result)
                return result
            self._counts.misses += 1
            wait.hand_over()
            return await self._work(key, flight, found, invocation, call_next)
        finally:
            self._leave(key, flight)

    async def _work(self, key: str, flight: Flight, place: Place, invocation: Invocation, call_next: Call) -> Result:
        above = led_here.set((*led_here.get(), key))
        try:
            result = await call_next(invocation)
        except BaseException as exc:
            if isinstance(exc, NexusError) and concerns_followers(exc, invocation):
                flight.crash(exc)
            self._leave(key, flight)  # followers need not wait until the place is free
            await place.give_up()
            raise
        finally:
            led_here.reset(above)
        flight.land(result)
        try:
            await place.put(result)
        except asyncio.CancelledError:
            await place.give_up()
            raise
        return result

    def _leave(self, key: str, flight: Flight) -> None:
        flight.abandon()
        if self._flights.get(key) is flight:
            del self._flights[key]
