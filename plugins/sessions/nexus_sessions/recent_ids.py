"""`RecentSessionIds`: the ids and expiry times of the sessions that this process has used."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core.state.sessions import Session

LIMIT = 100_000
"""Maximum number of ids. Sessions whose ids are forgotten still expire, but without cleanup and event."""


class RecentSessionIds:
    """Remembers at most `LIMIT` ids; the least recently used ones are forgotten first."""

    def __init__(self) -> None:
        self._expiries: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._expiries)

    def add(self, session: Session) -> None:
        """Remember a session's id and expiry time."""
        expiries = self._expiries
        expiries.pop(session.id, None)
        if session.expires_at is not None:
            expiries[session.id] = session.expires_at
            if len(expiries) > LIMIT:
                del expiries[next(iter(expiries))]

    def remove(self, session_id: str) -> None:
        """Forget an id."""
        self._expiries.pop(session_id, None)

    def expired(self, now: float, limit: int) -> list[str]:
        """Return up to ``limit`` ids of sessions that may have expired."""
        return list(islice((session_id for session_id, end in self._expiries.items() if end <= now), limit))
