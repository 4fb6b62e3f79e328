"""`UnitOfWork`: the sessions that one call of a manager's method has used, to be saved together afterwards."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core.state.sessions import Session


class UnitOfWork:
    """One call of a manager's method, including the methods that it calls.

    Args:
        manager: The service, which distinguishes the manager from those of other platforms.
        owner: Identity whose sessions are visible.
        sees_all: Whether the sessions of every owner are visible.
        saves: Whether changes to sessions are saved when it ends. They are not outside of a manager's methods.

    Attributes:
        sessions: The sessions it has used, by id.
        created: The sessions it has created.
        removed: The ids of the sessions it has removed.
        notified: The channels it has notified, by session id.
        is_open: Whether it is still running.
        is_abandoned: Whether it has failed or timed out, so that later changes are refused.
    """

    __slots__ = ("created", "is_abandoned", "is_open", "manager", "notified", "owner", "removed", "saves", "sees_all",
                 "sessions")  # fmt: skip

    def __init__(
        self, manager: object, owner: str | None = None, *, sees_all: bool = False, saves: bool = True
    ) -> None:
        self.manager = manager
        self.owner = owner
        self.sees_all = sees_all
        self.saves = saves
        self.sessions: dict[str, Session] = {}
        self.created: list[Session] = []
        self.removed: set[str] = set()
        self.notified: dict[str, list[str]] = {}
        self.is_open = saves
        self.is_abandoned = False

    def track(self, session: Session) -> Session:
        """Return the session of this id, the same object each time."""
        return self.sessions.setdefault(session.id, session) if self.saves else session

    def notify(self, channel: str, session_id: str) -> None:
        """Name a channel in the event of a session's change."""
        channels = self.notified.setdefault(session_id, [])
        if channel not in channels:
            channels.append(channel)


current_unit: ContextVar[UnitOfWork | None] = ContextVar("nexus_sessions_unit", default=None)
"""The unit of work that the running code is part of, in its tasks and threads too."""


def abandoned() -> RuntimeError:
    """Return the error for code that continues after its caller has been told that it failed."""
    return RuntimeError("This call of the session manager has failed or taken too long; its changes are refused.")
