"""The stage that takes each call from its caller's budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nexus_core import RateLimited, Stage
from nexus_core.types.principal import RateLimit
from nexus_ratelimit.counters import LocalCounters
from nexus_ratelimit.limits import METADATA, limit_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from nexus_core import Invocation, Result, Workflow
    from nexus_core.pipeline.stage import Call
    from nexus_ratelimit.callers import Callers
    from nexus_ratelimit.counters import Counters, Verdict
    from nexus_ratelimit.limits import Budget, Limit


class RateLimiter:
    """Refuses calls whose caller has used up its budget, the general one or the one of the workflow.

    Args:
        limit: What each caller may do in all.
        callers: Tells callers apart.
        counters: Counts.
        stage: Where it stands: behind the stage that finds out who calls, it tells callers apart by that.
    """

    def __init__(self, limit: Limit, callers: Callers, counters: Counters, stage: int = Stage.LIMIT) -> None:
        self.stage = stage
        self.is_before_auth = stage < Stage.AUTHENTICATE
        self._limit = limit
        self._callers = callers
        self._counters = counters
        self._local = counters if isinstance(counters, LocalCounters) else None
        self._own_limits: WeakKeyDictionary[Workflow, Limit] = WeakKeyDictionary()

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Refuse the call, or let it through.

        Raises:
            RateLimited: A budget is used up.
            ConfigurationError: The limit that a workflow's metadata sets can't be read.
        """
        was_counted = self.is_before_auth and invocation.rate_limit is not None  # a channel has asked who calls
        caller = self._callers.key(invocation, by_address=was_counted)
        if caller is None:
            return call_next(invocation)
        budgets = self._budgets(caller, invocation.workflow)
        if was_counted:
            budgets = budgets[:-1]
            if not budgets:
                return call_next(invocation)
        if self._local is None:
            return self._asked(budgets, invocation, call_next)
        judge(self._local.hit_now(budgets), invocation)
        return call_next(invocation)

    async def _asked(self, budgets: Sequence[Budget], invocation: Invocation, call_next: Call) -> Result:
        judge(await self._counters.hit(budgets), invocation)
        return await call_next(invocation)

    def _budgets(self, caller: str, workflow: Workflow | None) -> Sequence[Budget]:
        if workflow is None or workflow.metadata.get(METADATA) is None:
            return ((caller, self._limit),)
        own = self._own_limits.get(workflow)
        if own is None:
            own = limit_of(workflow)
            assert own is not None
            self._own_limits[workflow] = own
        return (f"{caller} {workflow.name}", own), (caller, self._limit)


def judge(verdict: Verdict, invocation: Invocation) -> None:
    """Tell the invocation how much is left of its caller's budget.

    Raises:
        RateLimited: Nothing is.
    """
    _, limit = verdict.budget
    state = RateLimit(limit.calls, limit.window, verdict.left, verdict.reset)
    invocation.rate_limit = state
    if not verdict.allowed:
        details = {"limit": state.limit, "window": state.window, "remaining": 0, "reset": state.reset}
        raise RateLimited(limit.message, retry_after=state.reset, details=details)
