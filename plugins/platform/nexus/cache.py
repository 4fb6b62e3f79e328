"""Caches of results."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    CacheManager="nexus_cache",
    MemoryCache="nexus_cache",
    RedisCache="nexus_cache",
)
