"""Hook implementations of the plugin ``pools``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_toolkit.pools import Pool

    from nexus_core import Nexus
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement


@hookimpl
def nexus_register_settings() -> type:
    """Give the pools' options."""
    from nexus_pools.settings import PoolsSettings

    return PoolsSettings


@hookimpl
def nexus_register_services(nexus: Nexus) -> dict[str, Pool]:  # type: ignore[type-arg]
    """Give the pools."""
    from nexus_pools.settings import PoolsSettings

    return nexus.settings(PoolsSettings).pools


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Take the event loop for the pools' own. Nothing is connected yet."""
    from nexus_pools.settings import PoolsSettings

    settings = nexus.settings(PoolsSettings)
    if settings.database is not None:
        await nexus.threads.call(__import__, "asyncpg")  # not while the first workflow waits for it
    for pool in settings.pools.values():
        pool.open()


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Close every connection."""
    from nexus_pools.settings import PoolsSettings

    for pool in nexus.settings(PoolsSettings).pools.values():
        await pool.close()


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give how many connections there are."""
    from nexus_toolkit.pools import pool_measurements

    from nexus_pools.settings import PoolsSettings

    return pool_measurements([*nexus.settings(PoolsSettings).pools.values()])


@hookimpl
def nexus_register_health_checks(nexus: Nexus) -> list[HealthCheck]:
    """Give whether PostgreSQL answers, where ``postgres_url`` is set."""
    from nexus_core.types.health import HealthCheck
    from nexus_pools.settings import PoolsSettings

    database = nexus.settings(PoolsSettings).database
    return [HealthCheck("postgres", database.check)] if database is not None else []
