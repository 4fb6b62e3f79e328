"""The stage in front of authentication that limits how many wrong credentials an address may try."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nexus_core import AuthenticationError, Stage
from nexus_ratelimit.limiter import judge

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core import Invocation, Result
    from nexus_core.pipeline.stage import Call
    from nexus_ratelimit.callers import Callers
    from nexus_ratelimit.counters import Counters
    from nexus_ratelimit.limits import Budget, Limit
    from nexus_ratelimit.shared import Spent

log = logging.getLogger(__name__)

MAX_KNOWN = 10_000


class FailedAttempts:
    """Refuses the credentials of an address that has sent too many wrong ones, without looking at them.

    A credential that this process has seen accepted is looked at all the same: whoever shares an address with those
    who guess, and is in already, stays in. A call without a credential is no attempt.

    Args:
        limit: How many may be wrong.
        callers: Tells addresses apart.
        counters: Counts those that were wrong.
        spent: Where addresses are noted that have had theirs.
    """

    stage = Stage.AUTHENTICATE - 1

    def __init__(self, limit: Limit, callers: Callers, counters: Counters, spent: Spent) -> None:
        self._limit = limit
        self._callers = callers
        self._counters = counters
        self._spent = spent
        self._accepted: dict[int, None] = {}

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Refuse the attempt, or let it through and take note if it fails.

        Raises:
            RateLimited: The address has had its attempts.
        """
        credential = _credential_of(invocation)
        if credential is None or invocation.principal is not None or not invocation.client_address:
            return call_next(invocation)
        return self._attempt(credential, invocation.client_address, invocation, call_next)

    async def _attempt(self, credential: int, address: str, invocation: Invocation, call_next: Call) -> Result:
        budget = ("failures " + self._callers.network(address), self._limit)
        if credential not in self._accepted and (refusal := self._spent.refusal(budget)):
            judge(refusal, invocation)
        try:
            return await call_next(invocation)
        except AuthenticationError:
            if invocation.principal is None:
                self._accepted.pop(credential, None)
                await self._count(budget, invocation)
            raise
        finally:
            if invocation.principal is not None and credential not in self._accepted:
                self._accept(credential)

    async def _count(self, budget: Budget, invocation: Invocation) -> None:
        verdict = await self._counters.hit((budget,))
        if self._spent.note(verdict):
            address = self._callers.network(invocation.client_address or "")
            log.warning("%s has sent too many wrong credentials: the next is not looked at", address)
        if not verdict.allowed:
            judge(verdict, invocation)

    def _accept(self, credential: int) -> None:
        self._accepted[credential] = None
        if len(self._accepted) > MAX_KNOWN:
            del self._accepted[next(iter(self._accepted))]


def _credential_of(invocation: Invocation) -> int | None:
    """Return a number that stands for a credential, or None. The credential itself need not be kept."""
    key = invocation.headers.get(b"x-api-key") if invocation.headers is not None else None
    if invocation.credentials:
        return hash((key, *invocation.credentials.values()))
    return None if key is None else hash(key)
