"""What is known of the caller that a manager's methods are called for."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from nexus_core import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core import Call, Invocation, Principal, Result
    from nexus_core.invocation import RateLimit

current_caller: ContextVar[tuple[Principal | None, RateLimit | None]] = ContextVar(
    "nexus_sessions_caller", default=(None, None)
)
"""The principal that calls, and its budget. A connection's tasks may still have that of an earlier request."""


class CallerNote:
    """Notes who calls, once that and its budget are known."""

    stage = Stage.LIMIT

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the invocation on."""
        current_caller.set((invocation.principal, invocation.rate_limit))
        return call_next(invocation)


def caller(user_id: str | None) -> tuple[Principal | None, RateLimit | None]:
    """Return the calling principal and its budget, if it is the one of that id."""
    principal, budget = current_caller.get()
    if principal is None or user_id not in (principal.identity, principal.user_id):
        return None, None
    return principal, budget
