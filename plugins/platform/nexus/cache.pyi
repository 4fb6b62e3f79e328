# Written by `make generate`.

from nexus_cache import CacheManager as CacheManager
from nexus_cache import MemoryCache as MemoryCache
from nexus_cache import RedisCache as RedisCache

__all__ = [
    "CacheManager",
    "MemoryCache",
    "RedisCache",
]
