"""The plugin ``pools``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import Plugin
from nexus_pools.settings import PoolsSettings

if TYPE_CHECKING:
    from nexus_toolkit.pools import Pool

    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement
    from nexus_pools.database import DatabasePool


class PoolsPlugin(Plugin[PoolsSettings]):
    """Connection pools for workflows: ``db_pool`` for PostgreSQL, and ``http_pool``."""

    @cached_property
    def _database(self) -> DatabasePool | None:
        from nexus_pools.database import DatabasePool

        url = self.settings.postgres_url
        return None if url is None else DatabasePool(url.get_secret_value().strip(), self.settings)

    @cached_property
    def _pools(self) -> dict[str, Pool[Any]]:
        from nexus_pools.http_pool import HttpPool

        every: tuple[Pool[Any] | None, ...] = (self._database, HttpPool(self.settings))
        return {pool.name: pool for pool in every if pool is not None}

    def nexus_register_services(self) -> dict[str, Pool[Any]]:
        """Return the pools."""
        return self._pools

    async def startup(self) -> None:
        """Bind the pools to the event loop. No connection is opened yet."""
        if self._database is not None:
            await self.platform.threads.call(__import__, "asyncpg")  # not while the first workflow waits for it
        for pool in self._pools.values():
            pool.open()

    async def shutdown(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.close()

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return the numbers of connections."""
        from nexus_toolkit.pools import pool_measurements

        return pool_measurements([*self._pools.values()])

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the health check ``postgres``, if ``postgres_url`` is set."""
        from nexus_core.types.health import HealthCheck

        return [] if self._database is None else [HealthCheck("postgres", self._database.check)]
