"""Sessions: state that one caller shares across channels. The contract, and its simplest form in this process."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

from nexus_core.errors import SessionNotFound


@dataclass(slots=True)
class Session:
    """What one caller carries from channel to channel.

    Attributes:
        id: Unguessable; whoever holds it, and is its user, may use the session.
        user_id: Its principal's id, or None for a caller without one.
        state: The caller's own JSON object.
        metadata: What the platform and its plugins note about the session.
        active_channels: The channels that have used it.
        version: Grows by one with each change of ``state``.
        created_at, expires_at: Seconds since the epoch; ``expires_at`` None means never.
    """

    id: str
    user_id: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    active_channels: set[str] = field(default_factory=set)
    version: int = 1
    created_at: float = field(default_factory=time.time)
    expires_at: float | None = None


class SessionStore(Protocol):
    """Where sessions are kept. Every method answers as if another's session did not exist."""

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """Make a session and return it."""

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """Return a session. Raises `SessionNotFound`, also for another user's."""

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """Forget a session. Raises `SessionNotFound`, also for another user's."""


class InProcessSessions:
    """A bounded `SessionStore` in this process's memory: the sessions used longest ago make room."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        session = Session(secrets.token_urlsafe(24), user_id, active_channels={channel})
        self._sessions[session.id] = session
        while len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)
        return session

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.get`."""
        session = self._sessions.get(session_id)
        if session is None or session.user_id != user_id:
            raise SessionNotFound("There is no session of that id.")
        self._sessions.move_to_end(session_id)
        return session

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """See `SessionStore.remove`."""
        await self.get(session_id, user_id)
        del self._sessions[session_id]
