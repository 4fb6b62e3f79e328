"""A cache for the results of workflows. Names are imported at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiocache import RedisCache as RedisCache  # type: ignore[import-untyped]

    from nexus_cache.aiocaches import MemoryCache as MemoryCache
    from nexus_cache.aiocaches import StoreCache as StoreCache
    from nexus_cache.manager import CacheManager as CacheManager

_HOME_OF = {
    "CacheManager": "nexus_cache.manager",
    "MemoryCache": "nexus_cache.aiocaches",
    "RedisCache": "aiocache",
    "StoreCache": "nexus_cache.aiocaches",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(module), name, None)
    if found is None:  # aiocache has it where redis is installed
        raise ImportError(f"{name} needs the library redis: pip install nexus-hub-redis")
    return found


def __dir__() -> list[str]:
    return list(__all__)
