"""The caller for whom a session manager's methods are called."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from nexus_core import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core import AnyCaller, Caller, CallNext, Principal, Result
    from nexus_core.types.principal import RateLimit

current_caller: ContextVar[Caller | None] = ContextVar("nexus_sessions_caller", default=None)
"""The caller that the running code works for. A connection's tasks may still have that of an earlier request."""


class CallContextStage:
    """Sets `current_caller` before authentication; the caller gets its principal and rate limit later."""

    stage = Stage.AUTHENTICATE - 1

    def __call__(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Set the context variable and pass the caller on."""
        current_caller.set(caller)
        return call_next(caller)


def caller(user_id: str | None) -> tuple[Principal | None, RateLimit | None]:
    """Return the calling principal and its rate limit if it has this id, else None for both."""
    current = current_caller.get()
    principal = None if current is None else current.principal
    if current is None or principal is None or user_id not in (principal.identity, principal.user_id):
        return None, None
    return principal, current.rate_limit
