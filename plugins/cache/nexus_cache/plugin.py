"""Hook implementations of the plugin ``cache``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Interceptor, Nexus
    from nexus_core.types.measurement import Measurement


@hookimpl
def nexus_register_settings() -> type:
    """Give the cache's options."""
    from nexus_cache.settings import CacheSettings

    return CacheSettings


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stage, where caching is on."""
    from nexus_cache.settings import CacheSettings

    settings = nexus.settings(CacheSettings)
    if not settings.enable_caching:
        return []
    from nexus_cache.build import result_cache

    return [result_cache(nexus, settings)]


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give how often results were found, where caching is on."""
    from nexus_cache.settings import CacheSettings

    settings = nexus.settings(CacheSettings)
    return settings.counts.measurements() if settings.enable_caching else []
