"""The stage that finds the session a caller names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.pipeline.stage import Call, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.state.sessions import SessionStore
    from nexus_core.types.result import Result


class SessionLookup:
    """Finds the session that the caller names. A call that names none pays nothing."""

    stage = Stage.SESSION

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Put the session into the invocation."""
        session_id = invocation.session_id
        return call_next(invocation) if session_id is None else self._with(session_id, invocation, call_next)

    async def _with(self, session_id: str, invocation: Invocation, call_next: Call) -> Result:
        invocation.session = await self._store.get(session_id, invocation.owner)
        return await call_next(invocation)
