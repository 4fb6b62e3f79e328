"""`Unit`: what one call of a manager's method is given and does, so that it can be kept together afterwards."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core.state.sessions import Session


class Unit:
    """One call of a manager's method, with all that the method calls in turn.

    Args:
        manager: Tells the manager from those of other platforms.
        owner: Whose sessions are there for it.
        sees_all: Whether everybody's are.
        keeps: Whether what it changes in sessions will be kept when it ends. It is not outside of a manager's methods.

    Attributes:
        sessions: The sessions that it was given, by id.
        made: Those that it has made.
        removed: The ids of those that it has removed.
        notified: The channels that it has notified, by session.
        is_open: Whether it has not ended.
        is_given_up: Whether it has failed or taken too long: it must not do anything any more.
    """

    __slots__ = ("is_given_up", "is_open", "keeps", "made", "manager", "notified", "owner", "removed", "sees_all",
                 "sessions")  # fmt: skip

    def __init__(
        self, manager: object, owner: str | None = None, *, sees_all: bool = False, keeps: bool = True
    ) -> None:
        self.manager = manager
        self.owner = owner
        self.sees_all = sees_all
        self.keeps = keeps
        self.sessions: dict[str, Session] = {}
        self.made: list[Session] = []
        self.removed: set[str] = set()
        self.notified: dict[str, list[str]] = {}
        self.is_open = keeps
        self.is_given_up = False

    def hand(self, session: Session) -> Session:
        """Return a session, the same object each time."""
        return self.sessions.setdefault(session.id, session) if self.keeps else session

    def note(self, channel: str, session_id: str) -> None:
        """Note that a channel shall hear of a session's change."""
        channels = self.notified.setdefault(session_id, [])
        if channel not in channels:
            channels.append(channel)


current_unit: ContextVar[Unit | None] = ContextVar("nexus_sessions_unit", default=None)
"""The unit that the running code is part of, in its tasks and threads too."""


def given_up() -> RuntimeError:
    """Return the error for code that goes on after its caller has been told that it failed."""
    return RuntimeError("This call of the session manager has failed or taken too long, and can't do anything more.")
