"""Makes the parts of the plugin out of the options, at each start, and ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError
from nexus_core.concurrency.threads import call_on
from nexus_core.state.stored_sessions import StoredSessions
from nexus_core.types.health import HealthCheck
from nexus_sessions.cleaning import Cleaning
from nexus_sessions.managed import ManagedSessions
from nexus_sessions.manager import SessionManager
from nexus_sessions.overrides import Overrides
from nexus_sessions.seen import SeenSessions
from nexus_sessions.service import SessionService
from nexus_sessions.sqlite_store import SqliteStore
from nexus_sessions.switched_off import NoSessions

if TYPE_CHECKING:
    from nexus_core import Nexus, SessionStore
    from nexus_sessions.settings import SessionSettings

LINGER_INTERVALS = 2
"""For how many intervals of cleaning an expired session is still there to be cleaned up."""


class Started:
    """What exists of the plugin while its platform is started."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sqlite: SqliteStore | None = None
        self._manager: SessionManager | None = None
        self._cleaning: Cleaning | None = None

    def begin(self) -> None:
        """Note the event loop."""
        self._loop = asyncio.get_running_loop()

    async def end(self) -> None:
        """End what was begun."""
        cleaning, self._cleaning = self._cleaning, None
        if cleaning is not None:
            await cleaning.end()
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.detach()
        sqlite, self._sqlite = self._sqlite, None
        if sqlite is not None:
            await sqlite.close()

    def sqlite_store(self, nexus: Nexus, settings: SessionSettings) -> SqliteStore:
        """Return the store in a file.

        Raises:
            ConfigurationError: It was asked for, and the file can't be used.
        """
        self._sqlite = SqliteStore(settings.sqlite_file, limits=settings.sqlite_limits)
        if _uses_sqlite(nexus, settings):
            self._sqlite.check()
        return self._sqlite

    def health_checks(self, nexus: Nexus, settings: SessionSettings) -> list[HealthCheck]:
        """Return whether the file can be written to, where it is used."""
        if self._sqlite is None or not _uses_sqlite(nexus, settings):
            return []
        return [HealthCheck("sqlite", self._sqlite.probe)]

    def sessions(self, nexus: Nexus, settings: SessionSettings) -> SessionStore:
        """Return the sessions, and begin to clean up among them.

        Raises:
            ConfigurationError: There is no such store, or the manager is none.
        """
        assert self._loop is not None  # nexus_startup comes first
        manager = _manager(nexus)
        if not settings.enable_sessions:
            return NoSessions(nexus.store(None, "store").name)
        stored = StoredSessions(
            nexus.store(settings.session_backend, "session_backend"), nexus.events.publish, ttl=settings.session_ttl,
            max_bytes=settings.session_max_bytes, linger=LINGER_INTERVALS * settings.session_cleanup_interval,
        )  # fmt: skip
        overrides = Overrides(manager, nexus.threads, settings.session_manager_timeout, self._loop)
        service = SessionService(stored, SeenSessions(), overrides, nexus.events.publish, self._loop)
        if manager is not None:
            manager.attach(service)
            self._manager = manager
        self._cleaning = Cleaning(service, settings.session_cleanup_interval)
        call_on(self._loop, self._cleaning.start)
        return ManagedSessions(service)


def _uses_sqlite(nexus: Nexus, settings: SessionSettings) -> bool:
    return SqliteStore.name in (settings.session_backend, nexus.options.store)


def _manager(nexus: Nexus) -> SessionManager | None:
    manager = nexus.session_manager
    if manager is not None and not isinstance(manager, SessionManager):
        shown = f"the class {manager.__name__}" if isinstance(manager, type) else f"a {type(manager).__name__}"
        raise ConfigurationError(f"register_session_manager takes an object of a SessionManager's class, not {shown}.")
    return manager
