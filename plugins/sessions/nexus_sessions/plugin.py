"""Hook implementations of the plugin ``sessions``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Interceptor, Nexus, SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck


@hookimpl
def nexus_register_settings() -> type:
    """Give the options of sessions."""
    from nexus_sessions.settings import SessionSettings

    return SessionSettings


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Note on which event loop the platform is."""
    from nexus_sessions.settings import SessionSettings

    nexus.settings(SessionSettings).started.begin()


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """End the cleaning, and close the file."""
    from nexus_sessions.settings import SessionSettings

    await nexus.settings(SessionSettings).started.end()


@hookimpl
def nexus_register_stores(nexus: Nexus) -> list[Store]:
    """Give the store ``sqlite``."""
    from nexus_sessions.settings import SessionSettings

    settings = nexus.settings(SessionSettings)
    return [settings.started.sqlite_store(nexus, settings)]


@hookimpl
def nexus_register_session_stores(nexus: Nexus) -> list[SessionStore]:
    """Give the sessions, by way of the manager where there is one."""
    from nexus_sessions.settings import SessionSettings

    settings = nexus.settings(SessionSettings)
    return [settings.started.sessions(nexus, settings)]


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stage that notes who calls, where there is a manager that may ask."""
    if nexus.session_manager is None:
        return []
    from nexus_sessions.callers import CallerNote

    return [CallerNote()]


@hookimpl
def nexus_register_health_checks(nexus: Nexus) -> list[HealthCheck]:
    """Give whether the file of the store ``sqlite`` can be written to, where it is used."""
    from nexus_sessions.settings import SessionSettings

    settings = nexus.settings(SessionSettings)
    return settings.started.health_checks(nexus, settings)
