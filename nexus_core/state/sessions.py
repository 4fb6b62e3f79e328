"""Sessions: state that one caller shares across channels. The contract; `nexus_core.state.stored_sessions` keeps it.

A session belongs to the principal that has made it: for everybody else it is not there. Its state changes by
compare-and-set, so that nothing is lost however many write at a time: what a change names is replaced, what it does not
name stays, and ``null`` takes a member away. Where two workflows change the same member at a time, the one that ends
last gets a `Conflict`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class Session:
    """What one caller carries from channel to channel.

    Attributes:
        id: Unguessable; a caller that holds it, and is its user, may use the session.
        user_id: Its principal's `Principal.identity`, or None for a caller without one.
        state: The caller's own JSON object.
        metadata: What the platform and its plugins note about the session. Callers don't see it.
        active_channels: The channels that have used it.
        version: Grows by one with each change.
        created_at, expires_at: Seconds since the epoch; ``expires_at`` None means never.
        stored: For the `SessionStore` that gave it: what it keeps of it.
    """

    id: str
    user_id: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    active_channels: set[str] = field(default_factory=set)
    version: int = 1
    created_at: float = field(default_factory=time.time)
    expires_at: float | None = None
    stored: bytes = field(default=b"", repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the session as channels show it."""
        return {
            "session_id": self.id,
            "state": self.state,
            "active_channels": sorted(self.active_channels),
            "version": self.version,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }


class SessionStore(Protocol):
    """Where sessions are kept. Every method answers as if another's session did not exist."""

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """Make a session and return it."""

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """Return a session. Raises `SessionNotFound`, also for another user's."""

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """Change members of a session's state, and return the session. None takes a member away.

        Raises:
            SessionNotFound: The session does not exist, or it is another's.
            Conflict: ``version`` is not the session's; the details have the one it is.
            ValidationError: The state would be too large, or is not JSON.
        """

    async def used(self, session: Session, channel: str) -> None:
        """Keep what a call has changed in a session that it got from `get`, and that it was used.

        Raises:
            Conflict: Another call has changed the same member of the state since.
        """

    async def renew(self, session_id: str, user_id: str | None = None) -> Session:
        """Replace the id of a session, and set its user to the caller; the old id stops working. For use after a login.

        Raises:
            SessionNotFound: It does not exist, or is another user's. One without a user is open to all callers.
        """

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """Forget a session. Raises `SessionNotFound`, also for another user's."""
