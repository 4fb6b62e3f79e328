"""Results that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_cache import CacheManager as CacheManager
    from nexus_cache import MemoryCache as MemoryCache
    from nexus_cache import RedisCache as RedisCache

__getattr__, __dir__, __all__ = names(
    __name__,
    CacheManager="nexus_cache",
    MemoryCache="nexus_cache",
    RedisCache="nexus_cache",
)
