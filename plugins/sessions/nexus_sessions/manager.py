"""`SessionManager`: the base class for overriding how sessions are created, changed and cleaned up."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_sessions.call_context import caller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.state.sessions import Session
    from nexus_sessions.service import SessionService


class SessionManager:
    """Manages sessions. Subclass it, override the methods you want to change, and register an instance.

    A sync override runs in a thread, because it may block; there the methods of this class return their results. An
    async override runs on the event loop; there they must be awaited, except for the helpers ``get_tenant_id``,
    ``get_user_permissions`` and ``get_rate_limits``. Changes of an override to the state or metadata of a session that
    these methods returned are saved when it returns, merged with concurrent changes. If it raises, nothing is saved; a
    `NexusError` is sent to the caller.

    Within a request, only its caller's sessions are visible; elsewhere all sessions are.

    Example:
        ```python
        class TenantSessions(SessionManager):
            def create_session(self, channel, user_id=None):
                session = super().create_session(channel, user_id)
                session.metadata["tenant_id"] = self.get_tenant_id(user_id)
                return session


        nexus.register_session_manager(TenantSessions())
        ```
    """

    _attached_to: SessionService | None = None

    @cached_property
    def logger(self) -> logging.Logger:
        """Logger for the subclass."""
        return logging.getLogger(f"nexus.sessions.{type(self).__name__}")

    def create_session(self, channel: str, user_id: str | None = None) -> Any:
        """Create a session and return it.

        Args:
            channel: Name of the caller's channel.
            user_id: The caller's `Principal.identity`, or None if authentication is off.
        """
        service = self._attached()
        return service.perform(service.create, channel, user_id)

    def get_session(self, session_id: str) -> Any:
        """Return a session. Raises `SessionNotFound`."""
        service = self._attached()
        return service.perform(service.get, session_id)

    def sync_session_state(self, session_id: str, state: Mapping[str, Any]) -> Any:
        """Change members of a session's state and return the session. The value None removes a member.

        Called for every change: by a request, and by a workflow in its caller's session.

        Raises:
            SessionNotFound: Unknown session.
            ValidationError: The state would be too large, or is not JSON.
        """
        service = self._attached()
        return service.perform(service.sync, session_id, state)

    def notify_channel(self, channel: str, session_id: str, state: Mapping[str, Any]) -> Any:
        """Name a channel in the event ``session.updated``.

        In an override, all calls for a session go into the one event of its change; elsewhere each call publishes one.

        Args:
            channel: The channel's name.
            session_id: The session.
            state: The changed members.
        """
        return self._attached().notify(channel, session_id, state)

    def get_expired_sessions(self) -> Any:
        """Return expired sessions that are not cleaned up yet, a batch at a time."""
        service = self._attached()
        return service.perform(service.expired)

    def cleanup_expired_sessions(self) -> Any:
        """Clean up and remove expired sessions. Called every ``session_cleanup_interval`` seconds."""
        service = self._attached()
        return service.perform(service.cleanup)

    def cleanup_session_resources(self, session: Session) -> Any:
        """Release an expired session's resources, such as files. The default does nothing.

        Several processes that have used the session may call it at the same time.
        """
        return self._attached().done()

    def remove_session(self, session_id: str) -> Any:
        """Remove a session. A session that had expired, and has been used since, stays.

        Raises:
            SessionNotFound: Unknown session.
        """
        service = self._attached()
        return service.perform(service.remove, session_id)

    def get_tenant_id(self, user_id: str | None) -> str | None:
        """Return the caller's tenant if the caller has this id, else None."""
        principal, _ = caller(user_id)
        return None if principal is None else principal.tenant_id

    def get_user_permissions(self, user_id: str | None) -> list[str]:
        """Return the caller's permissions if the caller has this id, else an empty list."""
        principal, _ = caller(user_id)
        return [] if principal is None else sorted(principal.permissions)

    def get_rate_limits(self, user_id: str | None) -> dict[str, float]:
        """Return the caller's rate limit if the caller has this id and a limit, else an empty dict.

        Members: ``limit`` calls in ``window`` seconds, ``remaining`` calls, and ``reset`` seconds until there are more.
        """
        _, rate_limit = caller(user_id)
        if rate_limit is None:
            return {}
        return {name: getattr(rate_limit, name) for name in ("limit", "window", "remaining", "reset")}

    def attach(self, service: SessionService) -> None:
        """Connect the manager to a platform that starts. It can belong to only one at a time."""
        if self._attached_to not in (None, service) and self._attached_to.is_usable:
            raise ConfigurationError("A session manager belongs to one Nexus: create another instance for the second.")
        self._attached_to = service

    def detach(self) -> None:
        """Disconnect the manager from a platform that stops."""
        self._attached_to = None

    def _attached(self) -> SessionService:
        if self._attached_to is None:
            raise ConfigurationError(
                f"The session manager {type(self).__name__} is used while its platform is not started, or has "
                "enable_sessions=False. Register it with register_session_manager, and start the platform."
            )
        return self._attached_to
