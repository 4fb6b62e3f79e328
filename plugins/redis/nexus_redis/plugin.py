"""The plugin ``redis``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import Plugin
from nexus_redis.settings import RedisSettings

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.events.shared_log import EventTransport
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement
    from nexus_redis.client import RedisClient
    from nexus_redis.workflows import RedisPool


class RedisPlugin(Plugin[RedisSettings]):
    """Redis as a store, as a transport of events and as a pool for workflows, if ``redis_url`` is set."""

    def __init__(self, platform: Platform, settings: RedisSettings) -> None:
        super().__init__(platform, settings)
        self._client: RedisClient | None = None
        self._pool: RedisPool | None = None
        if settings.redis_url is None:
            return
        from nexus_redis.address import parse
        from nexus_redis.client import RedisClient
        from nexus_redis.workflows import RedisPool

        size, limit, timeout = (
            settings.redis_pool_size, settings.redis_pool_max_connections, settings.redis_timeout,
        )  # fmt: skip
        self._client = RedisClient(
            parse(settings.redis_url.get_secret_value()),
            pool_size=size, max_connections=limit, timeout=timeout, prefix=settings.redis_key_prefix,
        )  # fmt: skip
        self._pool = RedisPool(self._client, size=size, max_connections=limit, timeout=timeout)

    async def startup(self) -> None:
        """Connect. The platform starts without Redis too."""
        if self._client is not None and self._pool is not None:
            await self._client.open()
            self._pool.open()

    async def shutdown(self) -> None:
        """Close every connection."""
        if self._client is not None and self._pool is not None:
            await self._pool.close()
            await self._client.close()

    def nexus_register_services(self) -> dict[str, object]:
        """Return the pool for workflows."""
        return {} if self._pool is None else {self._pool.name: self._pool}

    def nexus_register_stores(self) -> list[Store]:
        """Return the store ``redis``."""
        if self._client is None:
            return []
        from nexus_toolkit.accounts import CallerLimits

        from nexus_redis.store import RedisStore

        limits = CallerLimits(self.settings.redis_caller_max_entries, self.settings.redis_caller_max_bytes)
        return [RedisStore(self._client, limits)]

    def nexus_register_event_transports(self) -> list[EventTransport]:
        """Return the stream of events."""
        if self._client is None:
            return []
        from nexus_redis.events import RedisEvents

        return [RedisEvents(self._client, self.settings.redis_events_kept)]

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check of Redis. It is critical if the option ``store`` names Redis."""
        if self._client is None:
            return []
        from nexus_core.types.health import HealthCheck

        return [HealthCheck("redis", self._client.check, self.platform.options.store == "redis")]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return whether Redis is available, and the use of the pool."""
        client, pool = self._client, self._pool
        if client is None or pool is None:
            return []
        from nexus_toolkit.pools import pool_measurements

        from nexus_core.types.measurement import Measurement

        help_text = "Whether Redis is available: 1 or 0."
        up = Measurement.of("nexus_redis_up", "gauge", help_text, lambda: float(client.reason is None))
        return [up, *pool_measurements([pool], "nexus_redis_pool")]
