"""`FailedAttempts`: the limit on invalid credentials from one address, before authentication."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nexus_core import AuthenticationError, Stage
from nexus_ratelimit.limiter import apply_decision

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core import AnyCaller, Caller, CallNext, Result
    from nexus_ratelimit.callers import CallerKeys
    from nexus_ratelimit.counters import Counters
    from nexus_ratelimit.limits import Budget, Limit
    from nexus_ratelimit.shared import ExhaustedBudgets

log = logging.getLogger(__name__)

MAX_ACCEPTED = 10_000
"""Maximum number of accepted credentials that are remembered."""


class FailedAttempts:
    """Refuses the credentials of an address that has sent too many invalid ones, without checking them.

    A credential that this process has accepted before is checked all the same, so that callers who share an address
    with an attacker are not locked out. A call without a credential is no attempt.

    Args:
        limit: The limit on invalid credentials.
        callers: Identifies addresses.
        counters: Counts invalid credentials.
        exhausted: The addresses that have reached the limit.
    """

    stage = Stage.AUTHENTICATE - 1

    def __init__(self, limit: Limit, callers: CallerKeys, counters: Counters, exhausted: ExhaustedBudgets) -> None:
        self._limit = limit
        self._callers = callers
        self._counters = counters
        self._exhausted = exhausted
        self._accepted: dict[int, None] = {}

    def __call__(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Refuse the attempt, or pass it on and count it if it fails.

        Raises:
            RateLimited: The address has reached the limit.
        """
        credential = _credential_of(caller)
        if credential is None or caller.principal is not None or not caller.client_address:
            return call_next(caller)
        return self._attempt(credential, caller.client_address, caller, call_next)

    async def _attempt(
        self, credential: int, address: str, caller: AnyCaller, call_next: CallNext[AnyCaller]
    ) -> Result:
        budget = ("failures " + self._callers.network(address), self._limit)
        if credential not in self._accepted and (refusal := self._exhausted.refusal(budget)):
            apply_decision(refusal, caller)
        try:
            return await call_next(caller)
        except AuthenticationError:
            if caller.principal is None:
                self._accepted.pop(credential, None)
                await self._count(budget, caller)
            raise
        finally:
            if caller.principal is not None and credential not in self._accepted:
                self._accept(credential)

    async def _count(self, budget: Budget, caller: Caller) -> None:
        decision = await self._counters.hit((budget,))
        if self._exhausted.note(decision):
            address = self._callers.network(caller.client_address or "")
            log.warning("%s has sent too many invalid credentials; further ones are refused unchecked", address)
        if not decision.allowed:
            apply_decision(decision, caller)

    def _accept(self, credential: int) -> None:
        self._accepted[credential] = None
        if len(self._accepted) > MAX_ACCEPTED:
            del self._accepted[next(iter(self._accepted))]


def _credential_of(caller: Caller) -> int | None:
    """Return a hash of the credential, or None. The credential itself is not stored."""
    key = caller.headers.get(b"x-api-key") if caller.headers is not None else None
    if caller.credentials:
        return hash((key, *caller.credentials.values()))
    return None if key is None else hash(key)
