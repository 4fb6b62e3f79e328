"""The stage of the pipeline that finds out who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.credentials import authorization_of
from nexus_core.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_auth.browser_sessions import BrowserSessions
    from nexus_auth.known import Accepted, KnownCredentials
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.pipeline.stage import Call
    from nexus_core.types.result import Result


class Authentication:
    """Puts the principal into each invocation, or refuses it.

    A credential that was accepted before costs a look into a dictionary. An invocation that has a principal already
    passes: only code of this process can put one there.

    Args:
        known: Credentials that were accepted.
        identify: Returns who sent an invocation's credential, or raises `NexusError`.
        sessions: Knows the cookie of browsers, where they may log in.
    """

    stage = Stage.AUTHENTICATE

    def __init__(
        self,
        known: KnownCredentials,
        identify: Callable[[Invocation], Awaitable[Accepted]],
        sessions: BrowserSessions | None = None,
    ) -> None:
        self._known = known
        self._identify = identify
        self._sessions = sessions

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the invocation on with its principal, or refuse it."""
        if invocation.principal is None:
            authorization = authorization_of(invocation, self._sessions)
            known = None if authorization is None else self._known.get(authorization)
            if known is None:
                return self._identified(invocation, call_next)
            invocation.principal, invocation.validity, _ = known
        return call_next(invocation)

    async def _identified(self, invocation: Invocation, call_next: Call) -> Result:
        invocation.principal, invocation.validity, _ = await self._identify(invocation)
        return await call_next(invocation)
