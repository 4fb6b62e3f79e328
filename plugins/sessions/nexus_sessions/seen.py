"""`SeenSessions`: the ids of the sessions that this process has seen, and when each may be over."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core.state.sessions import Session

LIMIT = 100_000
"""How many ids are remembered. Sessions that are forgotten end as the others do, but nobody is told."""


class SeenSessions:
    """Remembers ids, at most `LIMIT`: those that were seen longest ago make room."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def note(self, session: Session) -> None:
        """Remember a session, and when it will be over if nobody uses it."""
        ends = self._ends
        ends.pop(session.id, None)
        if session.expires_at is not None:
            ends[session.id] = session.expires_at
            if len(ends) > LIMIT:
                del ends[next(iter(ends))]

    def forget(self, session_id: str) -> None:
        """Forget an id."""
        self._ends.pop(session_id, None)

    def due(self, now: float, limit: int) -> list[str]:
        """Return the ids of sessions that may be over at a time, some if there are many."""
        return list(islice((session_id for session_id, end in self._ends.items() if end <= now), limit))
