"""Hook implementations of the plugin ``redis``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Nexus
    from nexus_core.events.shared_log import EventTransport
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement


@hookimpl
def nexus_register_settings() -> type:
    """Give Redis' options."""
    from nexus_redis.settings import RedisSettings

    return RedisSettings


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Look whether Redis is there. That it is not is no reason not to start."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is not None:
        await settings.client.open()
        settings.pool.open()


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Close every connection."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is not None:
        await settings.pool.close()
        await settings.client.close()


@hookimpl
def nexus_register_services(nexus: Nexus) -> dict[str, object]:
    """Give Redis for workflows, where ``redis_url`` is set."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    return {} if settings.redis_url is None else {settings.pool.name: settings.pool}


@hookimpl
def nexus_register_stores(nexus: Nexus) -> list[Store]:
    """Give the store, where ``redis_url`` is set."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is None:
        return []
    from nexus_redis.store import RedisStore

    return [RedisStore(settings.client, settings.limits)]


@hookimpl
def nexus_register_event_transports(nexus: Nexus) -> list[EventTransport]:
    """Give the stream of events, where ``redis_url`` is set."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is None:
        return []
    from nexus_redis.events import RedisEvents

    return [RedisEvents(settings.client, settings.redis_events_kept)]


@hookimpl
def nexus_register_health_checks(nexus: Nexus) -> list[HealthCheck]:
    """Give whether Redis answers. It is critical where it is the `store`: single features do without for a while."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is None:
        return []
    from nexus_core.types.health import HealthCheck
    from nexus_redis.store import RedisStore

    return [HealthCheck("redis", settings.client.check, nexus.options.store == RedisStore.name)]


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give whether Redis answers, and how many workflows use it, where ``redis_url`` is set."""
    from nexus_redis.settings import RedisSettings

    settings = nexus.settings(RedisSettings)
    if settings.redis_url is None:
        return []
    from nexus_toolkit.pools import pool_measurements

    from nexus_core.types.measurement import Measurement

    client = settings.client
    up = Measurement.of("nexus_redis_up", "gauge", "Whether Redis answers.", lambda: float(client.reason is None))
    return [up, *pool_measurements([settings.pool], "nexus_redis_pool")]
