"""The caller for whom a session manager's methods are called."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from nexus_core import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core import Call, Invocation, Principal, Result
    from nexus_core.types.principal import RateLimit

current_call: ContextVar[Invocation | None] = ContextVar("nexus_sessions_call", default=None)
"""The call that the running code is part of. A connection's tasks may still have that of an earlier request."""


class CallContextStage:
    """Sets `current_call` before authentication; the invocation gets its principal and rate limit later."""

    stage = Stage.AUTHENTICATE - 1

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Set the context variable and pass the call on."""
        current_call.set(invocation)
        return call_next(invocation)


def caller(user_id: str | None) -> tuple[Principal | None, RateLimit | None]:
    """Return the calling principal and its rate limit if it has this id, else None for both."""
    call = current_call.get()
    if call is None or call.principal is None or user_id not in (call.principal.identity, call.principal.user_id):
        return None, None
    return call.principal, call.rate_limit
