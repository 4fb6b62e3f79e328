"""`RateLimiter`: the interceptor that limits the calls of each caller."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nexus_core import Invocation, RateLimited, Stage
from nexus_core.types.principal import RateLimit
from nexus_ratelimit.counters import LocalCounters
from nexus_ratelimit.limits import METADATA, limit_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from nexus_core import AnyCaller, Caller, CallNext, Result, Workflow
    from nexus_ratelimit.callers import CallerKeys
    from nexus_ratelimit.counters import Counters, LimitDecision
    from nexus_ratelimit.limits import Budget, Limit


class RateLimiter:
    """Refuses calls that exceed the caller's general limit or the workflow's own limit for each caller.

    Args:
        limit: The general limit.
        callers: Identifies callers.
        counters: The counters.
        stage: Position in the pipeline. After authentication, callers are identified by their identity.

    Attributes:
        counters: The counters.
        is_before_auth: Whether it comes before authentication.
    """

    def __init__(self, limit: Limit, callers: CallerKeys, counters: Counters, stage: int = Stage.LIMIT) -> None:
        self.stage = stage
        self.is_before_auth = stage < Stage.AUTHENTICATE
        self._limit = limit
        self._callers = callers
        self.counters = counters
        self._local = counters if isinstance(counters, LocalCounters) else None
        self._own_limits: WeakKeyDictionary[Workflow, Limit] = WeakKeyDictionary()

    def __call__(self, call: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Refuse the call or pass it on. A request that reads counts as a call, for the general limit.

        Raises:
            RateLimited: A limit is exceeded.
            ConfigurationError: The limit in the workflow's metadata is invalid.
        """
        was_counted = self.is_before_auth and call.rate_limit is not None  # by a channel that authenticates early
        caller = self._callers.key(call, by_address=was_counted)
        if caller is None:
            return call_next(call)
        budgets = self._budgets(caller, call.workflow if isinstance(call, Invocation) else None)
        if was_counted:
            budgets = budgets[:-1]
            if not budgets:
                return call_next(call)
        if self._local is None:
            return self._with_shared(budgets, call, call_next)
        apply_decision(self._local.hit_now(budgets), call)
        return call_next(call)

    async def _with_shared(self, budgets: Sequence[Budget], call: AnyCaller, call_next: CallNext[AnyCaller]) -> Result:
        apply_decision(await self.counters.hit(budgets), call)
        return await call_next(call)

    def _budgets(self, caller: str, workflow: Workflow | None) -> Sequence[Budget]:
        if workflow is None or workflow.metadata.get(METADATA) is None:
            return ((caller, self._limit),)
        own = self._own_limits.get(workflow)
        if own is None:
            own = limit_of(workflow)
            assert own is not None
            self._own_limits[workflow] = own
        return (f"{caller} {workflow.name}", own), (caller, self._limit)


def apply_decision(decision: LimitDecision, caller: Caller) -> None:
    """Set the state of the caller's budget.

    Raises:
        RateLimited: The limit is exceeded.
    """
    _, limit = decision.budget
    state = RateLimit(limit.calls, limit.window, decision.left, decision.reset)
    caller.rate_limit = state
    if not decision.allowed:
        details = {"limit": state.limit, "window": state.window, "remaining": 0, "reset": state.reset}
        raise RateLimited(limit.message, retry_after=state.reset, details=details)
