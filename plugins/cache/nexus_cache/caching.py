"""`ResultCache`: the interceptor that answers equal calls with one result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_cache.entry import CachedResult
from nexus_cache.in_flight import InFlightCall, concerns_followers, keys_in_work
from nexus_cache.lease_wait import LeaseWait
from nexus_core import NexusError, Stage, jsontext
from nexus_core.options.settings import is_time_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_cache.counts import CacheCounts
    from nexus_cache.manager import CachePolicy
    from nexus_cache.plan import CachePlan, CachePlans
    from nexus_cache.result_store import Reservation, ResultStore
    from nexus_core import Call, Invocation, Result
    from nexus_core.runs.history import RunHistory


class ResultCache:
    """Answers a call with the cached result of an equal call, or with that of an equal call in flight.

    Args:
        store: The cached results.
        plans: How each workflow's results are cached.
        policy: The user's cache manager.
        runs: The runs of this process.
        timeout: Default time limit of a call in seconds; None for no limit.
        counts: Counts hits and misses.

    Attributes:
        in_flight: The calls that run, by key.
        plans: How each workflow's results are cached.
    """

    stage = Stage.CACHE

    def __init__(
        self, store: ResultStore, plans: CachePlans, policy: CachePolicy, runs: RunHistory, timeout: float | None,
        counts: CacheCounts,
    ) -> None:  # fmt: skip
        self._store = store
        self.plans = plans
        self._policy = policy
        self._runs = runs
        self._timeout = timeout
        self._counts = counts
        self.in_flight: dict[str, InFlightCall] = {}

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Return the result of an equal call or of this one. Calls that are not cacheable are passed on at once."""
        assert invocation.workflow is not None  # set by the stage RESOLVE
        plan = self.plans.of(invocation.workflow)
        return self._answer(plan, invocation, call_next) if plan.covers(invocation) else call_next(invocation)

    async def _answer(self, plan: CachePlan, invocation: Invocation, call_next: Call) -> Result:
        key = await self._key(plan, invocation)
        if key is None or key in keys_in_work.get():
            return await call_next(invocation)
        wait = LeaseWait(invocation, self._runs, self._timeout)
        while (call := self.in_flight.get(key)) is not None:
            result = await call.follow(wait)
            if result is not None:
                self._counts.joins += 1
                break
        else:
            result = await self._lead(key, plan.ttl, invocation, call_next, wait)
        if result.cached:
            wait.end(result)
        return result

    async def _key(self, plan: CachePlan, invocation: Invocation) -> str | None:
        """Return the key of the call's result; None if it must not be cached."""
        limit = invocation.timeout
        if limit is not None and not is_time_limit(limit):
            return None  # the execution refuses it
        try:
            params = jsontext.canonical(invocation.validated_params)
            if jsontext.parse_trusted(params) != invocation.validated_params:
                return None  # a set and a list, or NaN and null, have the same text
        except (TypeError, ValueError, RecursionError):
            return None
        custom: str | None = ""
        if self._policy.is_needed:
            custom = await self._policy.key(invocation.name, params)
        return None if custom is None else plan.key(invocation, custom, params)

    async def _lead(self, key: str, ttl: float, invocation: Invocation, call_next: Call, wait: LeaseWait) -> Result:
        """Find the result or run the workflow, for this call and for equal ones that arrive meanwhile."""
        call = self.in_flight[key] = InFlightCall()
        try:
            found = await self._store.take(key, ttl, wait)
            if isinstance(found, CachedResult):
                self._counts.hits += 1
                result = found.to_result()
                call.complete(result)
                return result
            self._counts.misses += 1
            wait.hand_over()
            return await self._work(key, call, found, invocation, call_next)
        finally:
            self._leave(key, call)

    async def _work(
        self, key: str, call: InFlightCall, reservation: Reservation, invocation: Invocation, call_next: Call
    ) -> Result:
        token = keys_in_work.set((*keys_in_work.get(), key))
        try:
            result = await call_next(invocation)
        except BaseException as exc:
            if isinstance(exc, NexusError) and concerns_followers(exc, invocation):
                call.fail(exc)
            self._leave(key, call)  # followers need not wait for the release
            await reservation.release()
            raise
        finally:
            keys_in_work.reset(token)
        call.complete(result)
        try:
            await reservation.put(result)
        except asyncio.CancelledError:
            await reservation.release()
            raise
        return result

    def _leave(self, key: str, call: InFlightCall) -> None:
        call.abandon()
        if self.in_flight.get(key) is call:
            del self.in_flight[key]
