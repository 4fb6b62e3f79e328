"""`SessionManager`: the user's say in where sessions are made, changed and cleaned up."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_sessions.callers import caller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.state.sessions import Session
    from nexus_sessions.service import SessionService


class SessionManager:
    """Manages sessions. Subclass it, override what you want to decide, and register it with a platform.

    A sync override runs in a thread, because it may block: there the methods of this class simply return. An async
    override runs on the event loop: there they have to be awaited, but for the helpers ``get_tenant_id``,
    ``get_user_permissions`` and ``get_rate_limits``. What an override changes in the state or metadata of a session
    that it was given here is kept when it returns, beside what others have changed meanwhile. One that raises keeps
    nothing; a `NexusError` that it raises is its caller's answer.

    A request's code finds its caller's sessions only; any other code finds everybody's.
    """

    _attached_to: SessionService | None = None

    @cached_property
    def logger(self) -> logging.Logger:
        """For the manager's own records."""
        return logging.getLogger(f"nexus.sessions.{type(self).__name__}")

    def create_session(self, channel: str, user_id: str | None = None) -> Any:
        """Make a session and return it.

        Args:
            channel: Where its caller comes from.
            user_id: Its caller's `Principal.identity`, or None where nobody is asked.
        """
        service = self._attached()
        return service.ask(service.create, channel, user_id)

    def get_session(self, session_id: str) -> Any:
        """Return a session. Raises `SessionNotFound`."""
        service = self._attached()
        return service.ask(service.get, session_id)

    def sync_session_state(self, session_id: str, state: Mapping[str, Any]) -> Any:
        """Change members of a session's state, and return the session. None takes a member away.

        Called for each change: one that a caller asks for, and one that a workflow has made in its caller's session.

        Raises:
            SessionNotFound: There is no such session.
            ValidationError: The state would be too large, or is not JSON.
        """
        service = self._attached()
        return service.ask(service.sync, session_id, state)

    def notify_channel(self, channel: str, session_id: str, state: Mapping[str, Any]) -> Any:
        """Name a channel in the event ``session.updated``.

        In an override it is the one event of the change, and of no other session's; elsewhere it is one of its own.

        Args:
            channel: The channel's name.
            session_id: The session.
            state: What has changed.
        """
        return self._attached().notify(channel, session_id, state)

    def get_expired_sessions(self) -> Any:
        """Return sessions that are over and not cleaned up yet: some, where there are many."""
        service = self._attached()
        return service.ask(service.expired)

    def cleanup_expired_sessions(self) -> Any:
        """Clean up and remove the sessions that are over. Called every ``session_cleanup_interval`` seconds."""
        service = self._attached()
        return service.ask(service.cleanup)

    def cleanup_session_resources(self, session: Session) -> Any:
        """Give back what a session that is over has used, such as files. Does nothing unless you override it.

        Several processes that have seen the session may do it at a time.
        """
        return self._attached().done()

    def remove_session(self, session_id: str) -> Any:
        """Forget a session. One that was over, and has been used since, stays.

        Raises:
            SessionNotFound: There is none.
        """
        service = self._attached()
        return service.ask(service.remove, session_id)

    def get_tenant_id(self, user_id: str | None) -> str | None:
        """Return the tenant of the caller, if it is the one of that id and has one."""
        principal, _ = caller(user_id)
        return None if principal is None else principal.tenant_id

    def get_user_permissions(self, user_id: str | None) -> list[str]:
        """Return the permissions that the caller came with, if it is the one of that id."""
        principal, _ = caller(user_id)
        return [] if principal is None else sorted(principal.permissions)

    def get_rate_limits(self, user_id: str | None) -> dict[str, float]:
        """Return the caller's budget, if it is the one of that id and has one.

        ``limit`` calls in ``window`` seconds; ``remaining`` are left, and there are more in ``reset`` seconds.
        """
        _, budget = caller(user_id)
        if budget is None:
            return {}
        return {name: getattr(budget, name) for name in ("limit", "window", "remaining", "reset")}

    def attach(self, service: SessionService) -> None:
        """Say what does the work. Called when the platform starts; a manager belongs to one at a time."""
        if self._attached_to not in (None, service) and self._attached_to.is_usable:
            raise ConfigurationError("A session manager belongs to one Nexus: make another one for the second.")
        self._attached_to = service

    def detach(self) -> None:
        """Forget what does the work. Called when the platform stops."""
        self._attached_to = None

    def _attached(self) -> SessionService:
        if self._attached_to is None:
            raise ConfigurationError(
                f"The session manager {type(self).__name__} is used while its platform is not started, or has "
                "enable_sessions=False: register it with register_session_manager, and start the platform."
            )
        return self._attached_to
