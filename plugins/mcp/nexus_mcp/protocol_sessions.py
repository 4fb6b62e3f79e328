"""`ProtocolSession`: the session of one connection, so that the calls of an agent share state by default."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nexus_core import NotFound
from nexus_core.state.limits import current_payer

if TYPE_CHECKING:
    from mcp.server.connection import Connection

    from nexus_core import Caller, Platform

_STATE_KEY = "nexus/session"


class ProtocolSession:
    """The platform's session of one connection. It is created when a call first needs it, and again when it has ended.

    Args:
        platform: The platform.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._id: str | None = None
        self._making = asyncio.Lock()

    async def id_for(self, caller: Caller) -> str | None:
        """Return the id of the session; None if sessions are off.

        Raises:
            AuthenticationError: The caller's credentials are missing or invalid.
            BackendUnavailable: The session can't be stored.
        """
        if self._id is None:
            async with self._making:  # concurrent calls share the session
                if self._id is None:
                    self._id = await self._made(caller)
        return self._id

    async def _made(self, caller: Caller) -> str | None:
        await self._platform.authenticate(caller)
        store = await self._platform.session_store()
        token = current_payer.set(caller.payer)
        try:
            return (await store.create("mcp", caller.owner)).id
        except NotFound:
            return None
        finally:
            current_payer.reset(token)

    def forget(self, session_id: str) -> None:
        """Create another session for the next call: this one has ended."""
        if self._id == session_id:
            self._id = None


class ProtocolSessions:
    """Finds the `ProtocolSession` of each connection.

    Args:
        platform: The platform.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._of_process = ProtocolSession(platform)

    def of(self, connection: Connection, *, on_stdio: bool) -> ProtocolSession | None:
        """Return that of a connection; None for a stateless request.

        Args:
            connection: The connection of the request.
            on_stdio: Whether it is that of the one client on stdio.
        """
        if on_stdio:
            return self._of_process
        if connection.session_id is None:
            return None
        state: dict[str, Any] = connection.state
        found: ProtocolSession = state.setdefault(_STATE_KEY, ProtocolSession(self._platform))
        return found
