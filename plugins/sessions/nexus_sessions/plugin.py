"""The plugin ``sessions``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Plugin
from nexus_core.concurrency.threads import call_on
from nexus_sessions.settings import SessionSettings

if TYPE_CHECKING:
    from nexus_core import Interceptor, Platform, SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck
    from nexus_sessions.cleaner import ExpiredSessionCleaner
    from nexus_sessions.manager import SessionManager
    from nexus_sessions.sqlite_store import SqliteStore

LINGER_INTERVALS, LINGER_SECONDS = 2, 30.0
"""How long an expired session stays in its store at least, to be cleaned up: a process may be late."""


class SessionPlugin(Plugin[SessionSettings]):
    """Sessions in the chosen store, the user's session manager, and the store ``sqlite``."""

    def __init__(self, platform: Platform, settings: SessionSettings) -> None:
        super().__init__(platform, settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sqlite: SqliteStore | None = None
        self._manager: SessionManager | None = None
        self._cleaner: ExpiredSessionCleaner | None = None

    async def startup(self) -> None:
        """Keep the platform's event loop for the session manager."""
        self._loop = asyncio.get_running_loop()

    async def shutdown(self) -> None:
        """Stop the cleaner, detach the manager and close the file."""
        cleaner, self._cleaner = self._cleaner, None
        if cleaner is not None:
            await cleaner.stop()
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.detach()
        sqlite, self._sqlite = self._sqlite, None
        if sqlite is not None:
            await sqlite.close()

    def nexus_register_stores(self) -> list[Store]:
        """Return the store ``sqlite``.

        Raises:
            ConfigurationError: An option chooses it, and the file can't be used.
        """
        from nexus_toolkit.accounts import CallerLimits

        from nexus_sessions.sqlite_store import SqliteStore

        settings = self.settings
        limits = CallerLimits(settings.sqlite_caller_max_entries, settings.sqlite_caller_max_bytes)
        self._sqlite = SqliteStore(_file(settings.sqlite_path), limits=limits)
        if self._uses_sqlite:
            self._sqlite.check()
        return [self._sqlite]

    def nexus_register_session_stores(self) -> list[SessionStore]:
        """Return the sessions, with the manager's overrides, and start the cleaner.

        Raises:
            ConfigurationError: Unknown store, or an invalid manager.
        """
        from nexus_core.state.stored_sessions import StoredSessions
        from nexus_sessions.cleaner import ExpiredSessionCleaner
        from nexus_sessions.disabled import DisabledSessionStore
        from nexus_sessions.managed import ManagedSessions
        from nexus_sessions.manager import SessionManager
        from nexus_sessions.overrides import Overrides
        from nexus_sessions.service import SessionService

        assert self._loop is not None  # `startup` comes first
        platform, settings, manager = self.platform, self.settings, self.platform.session_manager
        if manager is not None and not isinstance(manager, SessionManager):
            shown = f"the class {manager.__name__}" if isinstance(manager, type) else f"a {type(manager).__name__}"
            raise ConfigurationError(f"register_session_manager takes an instance of a SessionManager, not {shown}.")
        if not settings.enable_sessions:
            return [DisabledSessionStore(platform.store(None, "store").name)]
        publish = platform.events.publish
        stored = StoredSessions(
            platform.store(settings.session_backend, "session_backend"), publish, ttl=settings.session_ttl,
            max_bytes=settings.session_max_bytes,
            linger=max(LINGER_INTERVALS * settings.session_cleanup_interval, LINGER_SECONDS),
        )  # fmt: skip
        overrides = Overrides(manager, SessionManager, platform.threads, settings.session_manager_timeout)
        service = SessionService(stored, overrides, publish, self._loop)
        if manager is not None:
            manager.attach(service)
            self._manager = manager
        self._cleaner = ExpiredSessionCleaner(service, settings.session_cleanup_interval)
        call_on(self._loop, self._cleaner.start)
        return [ManagedSessions(service)]

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the stage that makes the caller known to the session manager."""
        if self.platform.session_manager is None:
            return []
        from nexus_sessions.call_context import CallContextStage

        return [CallContextStage()]

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check of the file, if an option chooses the store ``sqlite``."""
        if self._sqlite is None or not self._uses_sqlite:
            return []
        from nexus_core.types.health import HealthCheck

        return [HealthCheck("sqlite", self._sqlite.probe)]

    @property
    def _uses_sqlite(self) -> bool:
        return "sqlite" in (self.settings.session_backend, self.platform.options.store)


def _file(path: Path | None) -> Path:
    """Return the file of the store ``sqlite``; by default as the XDG Base Directory Specification says."""
    if path is not None:
        return path.expanduser().absolute()
    directory = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not directory.is_absolute():  # relative paths are ignored, as the specification requires
        directory = Path("~/.local/state").expanduser()
    return directory / "nexus" / "state.db"
